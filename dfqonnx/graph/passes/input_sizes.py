"""Sizes for input axes that a file leaves open: one to work with, another to compare with.

    float[N, 3, H, W] x      chosen (3, 224, 224), other (3, 448, 448)

`fold_constants` walks the graph with both. What is the same at both sizes is a constant; what is
not stays computed, so that the exported file takes every size that the user's file takes. The other
size is twice the chosen one, since whatever divides an image (pooling, upsampling) then divides it
too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from dfqonnx.errors import UsageError
from dfqonnx.graph.model import BATCH
from dfqonnx.graph.passes.edit import Shape, get_constant, get_shape

SIZES = "dfqonnx.sizes"  # key in the input's `meta`
CONCRETE = "dfqonnx.concrete"  # key in a value's `meta`: its shape at the chosen size
IMAGE_SIZE, SIGNAL_LENGTH = 224, 256  # per open axis of an image, of anything else


@dataclass(frozen=True)
class InputSizes:
    """The input's shape without the batch axis."""

    chosen: tuple[int, ...]  # to work with
    other: tuple[int, ...]  # to compare with; equal to `chosen` where nothing is open
    open_axes: tuple[int, ...]  # counted with the batch axis as 0
    fixed_batch: int | None = None  # the batch size that the file is fixed to; None when it is free


def choose_input_sizes(
    model: ir.Model, image_size: tuple[int, ...] | None, *, fixed_batch: int | None = None
) -> InputSizes:
    """Name the batch axis, choose sizes for open ones, and note them at the input.

    `image_size` is height and width, or one number for every open axis; None takes a usual one.
    """
    image = model.graph.inputs[0]
    shape = get_shape(image)
    assert shape is not None
    known = {axis: d for axis, d in enumerate(shape) if axis and isinstance(d, int) and d > 0}
    open_axes = [axis for axis in range(1, len(shape)) if axis not in known]
    channel = _find_channel_axis(image) if len(shape) == 4 else 0
    if channel in open_axes and (count := _count_channels(model)) is not None:
        known[channel] = count
        open_axes.remove(channel)
    wanted = _resolve_open_axes(image_size, shape, known, open_axes, channel=channel)
    chosen = {**known, **wanted}
    other = {axis: 2 * d if axis in open_axes else d for axis, d in chosen.items()}
    axes = sorted(chosen)
    sizes = InputSizes(
        chosen=tuple(chosen[axis] for axis in axes),
        other=tuple(other[axis] for axis in axes),
        open_axes=tuple(open_axes),
        fixed_batch=fixed_batch,
    )
    named = (f"D{axis}" if axis in open_axes else chosen[axis] for axis in axes)
    image.shape = ir.Shape([BATCH, *named])
    image.meta[SIZES] = sizes
    for output in model.graph.outputs:
        output.shape = None
    return sizes


def fix_open_axes(model: ir.Model) -> None:
    """Give up open axes: from now on the input has the chosen size."""
    image = model.graph.inputs[0]
    sizes = image.meta[SIZES]
    image.meta[SIZES] = replace(sizes, other=sizes.chosen, open_axes=())
    image.shape = ir.Shape([BATCH, *sizes.chosen])


def get_concrete_shape(value: ir.Value | None) -> Shape | None:
    """Return a value's shape at the chosen input size; the batch axis keeps its name."""
    noted = None if value is None else value.meta.get(CONCRETE)
    return get_shape(value) if noted is None else tuple(noted)


def _resolve_open_axes(
    image_size: tuple[int, ...] | None,
    shape: Shape,
    known: dict[int, int],
    open_axes: list[int],
    *,
    channel: int,
) -> dict[int, int]:
    """Return a size for every open axis; UsageError where `image_size` does not fit the input."""
    usual = IMAGE_SIZE if len(shape) == 4 else SIGNAL_LENGTH
    if image_size is None:
        return dict.fromkeys(open_axes, usual)
    if len(image_size) == 1:
        sizes = dict.fromkeys(open_axes or [a for a in known if a != channel], image_size[0])
    else:
        axes = [a for a in range(1, len(shape)) if a != channel]
        sizes = dict(zip(axes, image_size, strict=False)) if len(axes) == len(image_size) else {}
    wrong = not sizes or any(known.get(axis, size) != size for axis, size in sizes.items())
    if wrong or min(image_size) < 1:
        given = "x".join(map(str, image_size))
        form = "x".join("?" if d is None else str(d) for d in shape)
        raise UsageError(f"--image-size {given} does not fit the model's input {form}")
    return {axis: size for axis, size in sizes.items() if axis in open_axes}


def _find_channel_axis(image: ir.Value) -> int:
    """Return 3 where the image is transposed from N H W C before it is read, else 1."""
    shape = get_shape(image)
    if shape is not None and shape[1] not in {1, 3} and shape[3] in {1, 3}:
        return 3
    transposes = [node for node, _ in image.uses() if node.op_type == "Transpose"]
    perms = [node.attributes.get_ints("perm") or (0, 0) for node in transposes]
    return 3 if any(perm[1] == 3 for perm in perms) else 1


def _count_channels(model: ir.Model) -> int | None:
    """Return how many channels the first Conv reads."""
    for node in model.graph:
        weight = get_constant(node.inputs[1]) if node.op_type == "Conv" else None
        if weight is not None:
            return int(weight.shape[1]) * node.attributes.get_int("group", 1)
    return None
