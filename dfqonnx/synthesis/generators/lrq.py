"""The long-range generator: GDFQ's, with large-kernel attention after each enlarged stage.

    F <- F + Conv1x1( LKA( GELU( Conv1x1(F) ) ) )
    LKA(F) = F * Conv1x1( Conv7x7 depthwise, dilation 3 ( Conv5x5 depthwise (F) ) )

A kernel of 5 and one of 7 at dilation 3 see 5 + 6 * 3 = 23 pixels across. LRQ's own layout was not
found; this is the usual large-kernel attention block (Guo et al., "Visual Attention Network").

Source: "Long-Range Zero-Shot Generative Deep Network Quantization", Neural Networks 166, 2023.
"""

from __future__ import annotations

from torch import Tensor, nn

from dfqonnx.synthesis.generators.architecture import GENERATORS, GeneratorShape
from dfqonnx.synthesis.generators.gdfq import Gdfq


class LargeKernelAttention(nn.Module):
    """A value weighed by what lies far around it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times its attention, the same shape."""
        weight: Tensor = self.mix(self.far(self.near(x)))
        return x * weight


class LongRange(nn.Module):
    """The residual block around the attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.GELU(),
            LargeKernelAttention(channels),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the attention adds, the same shape."""
        added: Tensor = self.inner(x)
        return x + added


@GENERATORS.add("lrq")
def lrq(shape: GeneratorShape) -> nn.Module:
    """Return the long-range generator."""
    return Gdfq(shape, after=lambda channels, _: LongRange(channels))
