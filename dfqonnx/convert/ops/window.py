"""Sliding windows: what convolution and pooling share.

effective kernel   e = (k - 1) d + 1
SAME_*             output ceil(n / s); total padding max((out - 1) s + e - n, 0), the odd one at
                   the end for SAME_UPPER and at the start for SAME_LOWER
explicit           output floor_or_ceil((n + begin + end - e) / s) + 1; with ceil a window must
                   still start before the end padding
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints

AutoPad = Literal["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A resolved window; every tuple has one entry per spatial axis."""

    kernel: Ints
    strides: Ints
    dilations: Ints
    begin: Ints  # padding before
    end: Ints  # padding after
    output: Ints  # size of the result

    def overhang(self, size: Ints) -> Ints:
        """Return how many cells past the input the last window reaches, at least 0."""
        steps = zip(self.output, self.strides, self.kernel, self.dilations, strict=True)
        reached = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in steps]
        return tuple(max(0, r - b - n) for r, b, n in zip(reached, self.begin, size, strict=True))


@functools.lru_cache(maxsize=4096)
def resolve(
    size: Ints,
    kernel: Ints,
    auto_pad: AutoPad = "NOTSET",
    strides: Ints | None = None,
    pads: Ints | None = None,
    dilations: Ints | None = None,
    ceil_mode: int = 0,
) -> Window:
    """Fill in ONNX's defaults for an input of spatial size `size`."""
    rank = len(kernel)
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    begin, end, output = [], [], []
    for axis, (n, k, s, d) in enumerate(zip(size, kernel, strides, dilations, strict=True)):
        extent = (k - 1) * d + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            out = -(-n // s)
            total = max((out - 1) * s + extent - n, 0)
            before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            after = total - before
        else:
            explicit = pads if pads and auto_pad != "VALID" else (0,) * (2 * rank)
            before, after = explicit[axis], explicit[axis + rank]
            room = n + before + after - extent
            out = (-(-room // s) if ceil_mode else room // s) + 1
            if ceil_mode and (out - 1) * s >= n + before:
                out -= 1
        begin.append(before)
        end.append(after)
        output.append(out)
    return Window(
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        begin=tuple(begin),
        end=tuple(end),
        output=tuple(output),
    )


def padded(x: Tensor, begin: Ints, end: Ints, *, value: float = 0.0) -> Tensor:
    """Pad the trailing axes; negative amounts crop."""
    amounts = [p for pair in zip(reversed(begin), reversed(end), strict=True) for p in pair]
    return F.pad(x, amounts, value=value)
