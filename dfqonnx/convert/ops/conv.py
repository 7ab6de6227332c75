"""Conv and ConvTranspose (cross-correlation and its transpose).

    Conv            y[n, o] = b[o] + sum_i w[o, i] * pad(x)[n, i]            w (O, I/g, ...)
    ConvTranspose   out = (n - 1) s + output_padding + (k - 1) d + 1 - begin - end
                    w (I, O/g, ...)

A given `output_shape` fixes begin + end; the odd cell goes to the end for SAME_UPPER, else to the
start.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator
from dfqonnx.convert.ops.window import AutoPad, padded, resolve

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv", 1, 11, 22)
def conv(
    X: Tensor,  # (N, C, ...)
    W: Tensor,  # (O, C/group, ...)
    B: Tensor | None = None,  # (O)
    *,
    auto_pad: AutoPad = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolve."""
    del kernel_shape
    size, kernel = tuple(X.shape[2:]), tuple(W.shape[2:])
    window = resolve(size, kernel, auto_pad, strides, pads, dilations)
    padding = window.begin
    if window.begin != window.end:
        X = padded(X, window.begin, window.end)
        padding = (0,) * len(kernel)
    return CONV[len(kernel)](X, W, B, window.strides, padding, window.dilations, group)


@operator("ConvTranspose", 1, 11, 22)
def conv_transpose(
    X: Tensor,  # (N, C, ...)
    W: Tensor,  # (C, O/group, ...)
    B: Tensor | None = None,  # (O)
    *,
    auto_pad: AutoPad = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolve with the transposed kernel matrix."""
    del kernel_shape
    rank = X.dim() - 2
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    full = [
        (n - 1) * s + p + (k - 1) * d + 1
        for n, s, p, k, d in zip(X.shape[2:], strides, extra, W.shape[2:], dilations, strict=True)
    ]
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = tuple(n * s for n, s in zip(X.shape[2:], strides, strict=True))
    if output_shape is not None:
        totals = [f - o for f, o in zip(full, output_shape[-rank:], strict=True)]
        halves = [t // 2 for t in totals]
        rests = [t - h for t, h in zip(totals, halves, strict=True)]
        begin, end = (halves, rests) if auto_pad == "SAME_UPPER" else (rests, halves)
    else:
        explicit = pads if pads and auto_pad != "VALID" else (0,) * (2 * rank)
        begin, end = list(explicit[:rank]), list(explicit[rank:])
    function = TRANSPOSE[rank]
    if begin == end and min(begin) >= 0:
        return function(X, W, B, strides, tuple(begin), extra, group, dilations)
    y = function(X, W, B, strides, 0, extra, group, dilations)
    return padded(y, tuple(-p for p in begin), tuple(-p for p in end))
