"""The generator of DFQ-AKD, as its public re-implementation has it.

    z -> Linear 512 (H/8)(W/8) -> [x2 -> Conv, BN, ReLU] to 256, 128 and 64 channels
      -> Conv C -> tanh -> BN without affine

Convolutions are 3x3; no class is asked for.

Source: Choi et al., "Data-Free Network Quantization with Adversarial Knowledge Distillation",
CVPR Workshops 2020.
"""

from __future__ import annotations

from torch import Tensor, nn

from dfqonnx.synthesis.generators.architecture import GENERATORS, GeneratorShape, Upsample


@GENERATORS.add("akd")
class Akd(nn.Module):
    """The network."""

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        widths = [shape.scaled(channels) for channels in (512, 256, 128, 64)]
        self._first = (widths[0], *shape.halved(3))
        height, width = shape.halved(3)
        self.linear = nn.Linear(shape.latent, widths[0] * height * width)
        stages: list[nn.Module] = []
        for i in range(3):
            before, after = widths[i], widths[i + 1]
            stages += [
                Upsample(shape.halved(2 - i)),
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(
            *stages,
            nn.Conv2d(widths[3], shape.channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(shape.channels, affine=False),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) for z (B, latent)."""
        images: Tensor = self.body(self.linear(z).view(-1, *self._first))
        return images
