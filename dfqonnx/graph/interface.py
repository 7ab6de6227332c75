"""The user's inputs, and the form with one image input and a batch axis that all else works on.

    user's file      x uint8[H, W, 3], alpha float[], state float[N, 2], unused bool
    closed form      x uint8[1, H, W, 3]                alpha and state are constants

*Closing* fixes inputs that have a given value, drops those that no node reads, and adds a batch
axis to an image that has none, behind a Squeeze:

    x [1, H, W, 3] -- Squeeze(0) -- what the user's file does with x
    state [1, 2] -- Expand([rows of x, 1]) -- what it does with the state

*Opening* is the way back, for the exported file: constants become inputs again, and an Unsqueeze
stands behind the image. A real value, or several integers, is never folded into the network: the
exported file computes with what it is fed. A truth value or a single integer steers what is
computed, so it is decided when the model is read, and the exported file reads it no more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.errors import Offense, UsageError
from dfqonnx.graph.checks import name_type
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import make_unique
from dfqonnx.graph.passes.opset_upgrade import get_opset

Array = NDArray[Any]
_HANDS_ON = Trait.MOVES | Trait.ELEMENTWISE | Trait.AFFINE | Trait.EXTREMUM | Trait.CLAMP
_ADVICE = "give the values of all others with --input NAME=VALUE: a number, a list or an .npy file"


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What closing changes."""

    image: str = ""  # name of the input that images are fed to
    inputs: tuple[onnx.ValueInfoProto, ...] = ()  # all of the user's, in order
    held: Mapping[str, Array] = field(default_factory=dict)  # values by the input's name
    batch_axis: bool = True  # whether the user's image has one

    @property
    def is_plain(self) -> bool:
        """Whether the file is in its closed form already."""
        return len(self.inputs) < 2 and self.batch_axis

    @property
    def live(self) -> frozenset[str]:
        """The held inputs that the exported file reads still."""
        return frozenset(
            name
            for name, value in self.held.items()
            if value.dtype.kind == "f" or (value.dtype.kind in "iu" and value.size > 1)
        )


def find_interface(
    proto: onnx.ModelProto, given: Mapping[str, Array], path: object
) -> Interface | Offense:
    """Tell the image from other inputs, and fit `given` values, by name, to their inputs.

    Returns an Offense where several inputs are left that could be the image.

    Raises:
        UsageError: a given value belongs to no input, or does not fit it.
    """
    fed = _list_fed(proto)
    names = [port.name for port in fed]
    read = {name for node in proto.graph.node for name in node.input}
    read |= {output.name for output in proto.graph.output}
    for name in given:
        if name not in names:
            listed = ", ".join(map(repr, names))
            raise UsageError(f"--input {name}: {path} has no such input; it has {listed}")
    left = [port for port in fed if port.name not in given and port.name in read]
    if len(left) != 1:
        return _explain(left, fed, proto)
    held = {
        port.name: _fit(port, given[port.name], proto)
        for port in fed
        if port.name in given and port.name in read
    }
    image = left[0]
    return Interface(
        image=image.name,
        inputs=tuple(map(copy.deepcopy, fed)),
        held=held,
        batch_axis=_has_batch_axis(proto, image),
    )


def close_inputs(proto: onnx.ModelProto, interface: Interface) -> None:
    """Bring a file into the closed form, in place."""
    if interface.is_plain:
        return
    graph, image = proto.graph, interface.image
    others = {port.name for port in interface.inputs} - {image}
    kept = copy.deepcopy([port for port in graph.input if port.name not in others])
    del graph.input[:]
    graph.input.extend(kept)
    first: list[onnx.NodeProto] = []
    port = next(p for p in graph.input if p.name == image)
    if not interface.batch_axis:
        first.append(_move_axis("Squeeze", proto, image))
        user, shape = copy.deepcopy(port.type.tensor_type.shape), port.type.tensor_type.shape
        shape.ClearField("dim")
        shape.dim.add(dim_value=1)
        shape.dim.extend(user.dim)
    for name, value in interface.held.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
        if name in interface.live and _grows(name, interface, value):
            first += _repeat_rows(proto, name, value.ndim, image)
    _insert_first(graph, first)


def open_inputs(proto: onnx.ModelProto, interface: Interface) -> None:
    """Give an exported file in the closed form the user's inputs back, in place."""
    if interface.is_plain:
        return
    graph, image = proto.graph, interface.image
    if not interface.batch_axis:
        _insert_first(graph, [_move_axis("Unsqueeze", proto, image)])
    constants = copy.deepcopy([t for t in graph.initializer if t.name not in interface.held])
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.input[:]
    graph.input.extend(interface.inputs)


def _list_fed(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in proto.graph.initializer}
    return [port for port in proto.graph.input if port.name not in stored]


def _explain(
    left: list[onnx.ValueInfoProto], fed: list[onnx.ValueInfoProto], proto: onnx.ModelProto
) -> Offense:
    """Say why there is no image input, or which could be it."""
    if not left:
        reason = "no node reads any of its inputs" if fed else "it has no input"
        return Offense("graph", "", reason, "leave one input without a value: the image")
    listed = ", ".join(f"{port.name!r} ({_describe(port)})" for port in left)
    reason = f"one image input is expected, it has {listed}"
    states = [port for port in left[1:] if _is_state(port, proto)]
    if states:
        names = ", ".join(repr(port.name) for port in states)
        reason += f"; {names} looks like a state that one call hands to the next"
    return Offense("graph", "", reason, f"export a one-input model, or {_ADVICE}")


def _is_state(port: onnx.ValueInfoProto, proto: onnx.ModelProto) -> bool:
    return any(output.type == port.type for output in proto.graph.output)


def _describe(port: onnx.ValueInfoProto) -> str:
    tensor = port.type.tensor_type
    kind = name_type(tensor.elem_type)
    sizes = "x".join(
        str(d.dim_value if d.dim_value > 0 else d.dim_param or "?") for d in tensor.shape.dim
    )
    return f"{kind} {sizes}".strip()


def _fit(port: onnx.ValueInfoProto, value: Array, proto: onnx.ModelProto) -> Array:
    """Return the value in the type and shape that the input declares; a number fills a shape."""
    tensor, found = port.type.tensor_type, np.asarray(value)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    sizes = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    if found.ndim == 0 and sizes:
        found = np.full([size or 1 for size in sizes], found)
    if math.prod(size or 1 for size in sizes) == found.size and None not in sizes:
        found = found.reshape([size or 1 for size in sizes])
    fits = len(sizes) == found.ndim and all(
        size in {None, n} for size, n in zip(sizes, found.shape, strict=True)
    )
    cast = found.astype(dtype)
    if not fits or (found.dtype.kind in "iufb" and not np.allclose(cast.astype(float), found)):
        shape = "x".join(map(str, found.shape)) or "a number"
        raise UsageError(
            f"--input {port.name}: the model declares {_describe(port) or 'a number'}, and"
            f" {shape} of {found.dtype} was given"
        )
    return cast


def _grows(name: str, interface: Interface, value: Array) -> bool:
    """Tell whether the first axis of a held value counts images, as that of the image does."""
    if not interface.batch_axis or value.ndim < 1 or value.shape[0] != 1:
        return False
    ports = {port.name: port.type.tensor_type.shape.dim for port in interface.inputs}
    first, image = ports[name][0], ports[interface.image][0]
    if first.dim_value > 0 or image.dim_value > 0:
        return value.ndim > 1 and first.dim_value == image.dim_value == 1
    return bool(first.dim_param == image.dim_param)


def _repeat_rows(proto: onnx.ModelProto, name: str, rank: int, image: str) -> list[onnx.NodeProto]:
    """Return nodes that repeat a value for as many rows as the image has; all readers get it."""
    zero = _add_constant(proto, f"{name}/zero", np.zeros(1, np.int64))
    ones = _add_constant(proto, f"{name}/ones", np.ones(rank - 1, np.int64))
    shape, count, target, rows = (
        _make_name(proto, f"{name}/{part}") for part in ("shape", "count", "target", "rows")
    )
    _rename_reads(proto.graph, name, rows)
    return [
        helper.make_node("Shape", [image], [shape], shape),
        helper.make_node("Gather", [shape, zero], [count], count),
        helper.make_node("Concat", [count, ones], [target], target, axis=0),
        helper.make_node("Expand", [name, target], [rows], rows),
    ]


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _move_axis(op: str, proto: onnx.ModelProto, source: str) -> onnx.NodeProto:
    """Return a node that takes away or adds axis 0; all readers of `source` get its result."""
    result = _make_name(proto, f"{source}/{op}")
    _rename_reads(proto.graph, source, result)
    if get_opset(proto) < 13:
        return helper.make_node(op, [source], [result], result, axes=[0])
    axes = _add_constant(proto, f"{source}/axes", np.zeros(1, np.int64))
    return helper.make_node(op, [source, axes], [result], result)


def _add_constant(proto: onnx.ModelProto, stem: str, array: Array) -> str:
    name = _make_name(proto, stem)
    proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _make_name(proto: onnx.ModelProto, stem: str) -> str:
    """Return a name that neither a value nor a node of the graph has."""
    taken = {tensor.name for tensor in proto.graph.initializer}
    taken.update(name for node in proto.graph.node for name in (*node.output, node.name))
    return make_unique(stem, taken | {port.name for port in proto.graph.input})


def _insert_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = copy.deepcopy(list(graph.node))
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _has_batch_axis(proto: onnx.ModelProto, image: onnx.ValueInfoProto) -> bool:
    """Tell whether the image has a batch axis: False where the graph adds one before all else."""
    shape = [max(d.dim_value, 0) for d in image.type.tensor_type.shape.dim]
    if not image.type.tensor_type.HasField("shape") or len(shape) > 3 or shape[:1] == [1]:
        return True
    constants = dict(_list_constants(proto))
    waiting, added = {image.name}, False
    for node in proto.graph.node:
        if waiting.isdisjoint(node.input):
            continue
        if _adds_batch_axis(node, constants, shape):
            added = True
        elif node.op_type == "Cast" or has_trait(node.op_type, _HANDS_ON):
            waiting.update(node.output)
        else:
            return True
    return not added


def _adds_batch_axis(
    node: onnx.NodeProto, constants: Mapping[str, Array], shape: list[int]
) -> bool:
    """Tell whether a node puts an axis of 1 in front of all others."""
    given = [constants.get(name) for name in node.input[1:2]]
    listed = next((list(a.ints) for a in node.attribute if a.name in {"axes", "shape"}), None)
    if listed is None and given and given[0] is not None:
        listed = [int(number) for number in given[0]]
    if listed is None:
        return False
    if node.op_type == "Unsqueeze":
        return 0 in listed
    whole = all(shape) and math.prod(listed) == math.prod(shape)
    return node.op_type == "Reshape" and listed[:1] == [1] and whole


def _list_constants(proto: onnx.ModelProto) -> Iterator[tuple[str, Array]]:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.INT64 and math.prod(tensor.dims) <= 64:
            yield tensor.name, numpy_helper.to_array(tensor)
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and attribute.t.data_type == TensorProto.INT64:
                yield node.output[0], numpy_helper.to_array(attribute.t)
