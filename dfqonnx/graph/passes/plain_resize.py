"""Bring every Resize to one form: a scale per axis, and no input that it does not use.

Resize(x, roi, scales)                  -> Resize(x, , scales)             roi is for crops alone
Resize(x, (0), (0), sizes)              -> Resize(x, , scales = sizes / sizes of x)
Resize(x, , (s, t); axes = [2, 3])      -> Resize(x, , (1, 1, s, t))
Resize(x, , , [1, C, h, w])             -> Resize(x, , , [rows of x, C, h, w])   where no scale fits
Resize(x, , , (h, w); not_larger)       -> Resize(x, , (1, 1, s, s)), s = min(h / H, w / W)

Exporters of opset 10 to 13 write tensors without numbers for inputs that are not used. Scales fit
any batch, while sizes of some `axes` only end in an error of ONNX Runtime 1.31, where it moves a
Resize of codes to channels last. Given a size m for n numbers, a runtime takes s = float32(m / n);
given a scale s, it takes floor(float32(n s)) numbers. A scale is taken where that is m again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.concrete_inference import Inferred
from dfqonnx.graph.passes.free_constants import (
    add_known_constant,
    add_row_count,
    get_known_constant,
)

_ROI, _SCALES, _SIZES = 1, 2, 3


def make_resize_plain(
    node: ir.Node, inferred: Inferred, *, fixed_batch: int | None
) -> list[ir.Node]:
    """Rewrite a Resize of at least opset 18 in place; return the nodes that stand for it."""
    _drop_unused_inputs(node, inferred)
    shapes = [known.shape(node.inputs[0]) for known in inferred]
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if shapes[0] is None or shapes[1] is None or _crops(node):
        return [node]
    rank = len(shapes[0])
    listed = node.attributes.get_ints("axes")
    axes = [*range(rank)] if listed is None else [axis % rank for axis in listed]
    if policy != "stretch":
        if min(listed or axes) >= 0:  # ONNX Runtime 1.31 resizes nothing where axes are negative
            _keep_aspect_ratio(node, inferred, axes, policy=policy)
        return [node]
    scales = get_known_constant(inferred, edit.get_input(node, _SCALES))
    if scales is not None and listed is not None and scales.shape == (len(axes),):
        _set_scales(node, inferred, dict(zip(axes, scales.tolist(), strict=True)), rank)
    sizes = [known.constants.get(edit.get_input(node, _SIZES)) for known in inferred]
    if any(size is None or size.shape != (len(axes),) for size in sizes):
        return [node]
    wanted = {a: [int(size[i]) for size in sizes if size is not None] for i, a in enumerate(axes)}
    factors: dict[int, float | None] = {}
    for axis, ends in wanted.items():
        numbers = [shape[axis] for shape in shapes if shape is not None]
        if numbers == [known.batch for known in inferred] and (
            ends in (numbers, [fixed_batch] * 2)
        ):
            factors[axis] = 1.0
        elif numbers[0] != numbers[1] or ends[0] != ends[1]:
            return [node]  # an axis that the file leaves open: computed from the image
        else:
            factors[axis] = _find_scale(numbers[0], ends[0])
    known = {axis: factor for axis, factor in factors.items() if factor is not None}
    if len(known) == len(factors):
        _set_scales(node, inferred, known, rank)
        return [node]
    if listed is None and not np.array_equal(*sizes):
        return [node]  # counted at run time already
    return _set_sizes(node, inferred, {axis: ends[0] for axis, ends in wanted.items()}, shapes[0])


def _crops(node: ir.Node) -> bool:
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    return mode == "tf_crop_and_resize"


def _drop_unused_inputs(node: ir.Node, inferred: Inferred) -> None:
    for index in (_ROI, _SCALES, _SIZES):
        array = get_known_constant(inferred, edit.get_input(node, index))
        unused = index == _ROI and not _crops(node) and index < len(node.inputs)
        if unused or (array is not None and not array.size):
            node.replace_input_with(index, None)


def _find_scale(numbers: int, wanted: int) -> float | None:
    """Return the float32 that takes so many numbers to as many as are wanted; None without one."""
    scale = np.float32(wanted) / np.float32(numbers)
    return float(scale) if int(np.floor(np.float32(numbers) * scale)) == wanted else None


def _keep_aspect_ratio(
    node: ir.Node, inferred: Inferred, axes: Sequence[int], *, policy: str
) -> None:
    """Write sizes that only bound the result as the one scale that they come to.

    A runtime takes round(n s) numbers then; a scale of its own gives as many where floor(n s) does.
    """
    sizes = get_known_constant(inferred, edit.get_input(node, _SIZES))
    shapes = [known.shape(node.inputs[0]) or () for known in inferred]
    numbers = [shapes[0][axis] for axis in axes]
    if sizes is None or len(sizes) != len(axes) or numbers != [shapes[1][axis] for axis in axes]:
        return
    lengths = np.array(numbers, np.float32)
    factors = sizes.astype(np.float32) / lengths
    scale = factors.min() if policy == "not_larger" else factors.max()
    exact = lengths * scale
    if np.array_equal(np.floor(exact), np.floor(exact + np.float32(0.5))):
        _set_scales(node, inferred, dict.fromkeys(axes, float(scale)), len(shapes[0]))
        node.attributes.pop("keep_aspect_ratio_policy", None)


def _set_scales(node: ir.Node, inferred: Inferred, factors: dict[int, float], rank: int) -> None:
    scales = np.array([factors.get(axis, 1.0) for axis in range(rank)], np.float32)
    edit.set_input(node, _SCALES, add_known_constant(node, inferred, scales, stem="scales"))
    if len(node.inputs) > _SIZES:
        node.replace_input_with(_SIZES, None)
    node.attributes.pop("axes", None)


def _set_sizes(
    node: ir.Node, inferred: Inferred, wanted: dict[int, int], shape: Sequence[int]
) -> list[ir.Node]:
    """Give the size of every axis, the first one counted at run time."""
    if shape[0] != inferred[0].batch:
        return [node]
    assert node.inputs[0] is not None
    sizes = [wanted.get(axis, size) for axis, size in enumerate(shape)]
    made = add_row_count(node, inferred, node.inputs[0], sizes[1:], stem="sizes")
    edit.set_input(node, _SIZES, made[-1].outputs[0])
    node.attributes.pop("axes", None)
    return [*made, node]
