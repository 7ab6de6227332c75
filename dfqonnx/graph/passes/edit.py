"""The few reads and edits of a graph that all passes are made of."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

STATISTICS = "dfqonnx.statistics"  # key in `Value.meta`
HELD = "dfqonnx.held"  # key in `Value.meta` of an input whose value was given: never folded
Shape = tuple[int | str | None, ...]
Attributes = Mapping[str, int | Sequence[int]]


def get_node_name(node: ir.Node) -> str:
    """Return the node's name, or the one that it gets at the end of normalization."""
    return node.name or f"{node.op_type}_{node.outputs[0].name}"


def describe_node(node: ir.Node) -> str:
    """Return how a message names the node."""
    return f"{get_node_name(node)} ({node.op_type})"


def get_input(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def get_producer(node: ir.Node, index: int = 0) -> ir.Node | None:
    """Return the node that computes an input; None for one that is fed, constant or left out."""
    value = get_input(node, index)
    return None if value is None else value.producer()


def get_constant_input(node: ir.Node, index: int) -> NDArray[Any] | None:
    """Return the array of an input; None where it is left out or computed."""
    return get_constant(get_input(node, index))


def is_computed(node: ir.Node, index: int) -> bool:
    """Tell whether an input is there and no constant."""
    return get_input(node, index) is not None and get_constant_input(node, index) is None


def get_constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of an initializer, None for anything that is computed or fed, and text."""
    if value is None or value.is_graph_input() or value.const_value is None or HELD in value.meta:
        return None
    tensor = value.const_value
    return None if tensor.dtype == ir.DataType.STRING else tensor.numpy()


def get_shape(value: ir.Value | None) -> Shape | None:
    """Return a value's shape, free axes as their name."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def get_image_size(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return height, width ... of an N C H W value; None when any is unknown."""
    shape = get_shape(value)
    if shape is None or len(shape) < 3:
        return None
    sizes = tuple(d for d in shape[2:] if isinstance(d, int))
    return sizes if len(sizes) == len(shape) - 2 else None


def make_unique(name: str, taken: Container[str | None]) -> str:
    """Return the name, with the first number behind it that makes it a new one if it is taken."""
    if name not in taken:
        return name
    return next(new for n in count(2) if (new := f"{name}_{n}") not in taken)


def add_initializer(graph: ir.Graph, stem: str, array: NDArray[Any]) -> ir.Value:
    """Add a constant named `stem` (numbered when taken) and return it."""
    name = make_unique(stem, graph.initializers)
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    kind, shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def set_input(node: ir.Node, index: int, value: ir.Value | None) -> None:
    """Set an input, growing the list of inputs when it is shorter."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def set_new_constant(node: ir.Node, index: int, array: NDArray[Any], *, stem: str) -> None:
    """Let input `index` be a new constant, whatever it was."""
    assert node.graph is not None
    set_input(node, index, add_initializer(node.graph, stem, array))


def set_constant(node: ir.Node, index: int, array: NDArray[Any], *, stem: str) -> None:
    """Give input `index` a new array: in place when only `node` reads it, else a new constant."""
    value = get_input(node, index)
    if value is None or not value.is_initializer() or len(value.uses()) > 1:
        set_new_constant(node, index, array, stem=(value.name if value else None) or stem)
        return
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.shape = ir.Shape(array.shape)
    value.type = ir.TensorType(value.const_value.dtype)


def set_output(node: ir.Node, name: str, kind: ir.TypeProtocol | None, shape: Shape) -> None:
    """Give the output of a new node its name, type and shape."""
    value = node.outputs[0]
    value.name, value.type, value.shape = name, kind, ir.Shape(shape)


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand wherever `old` stood, under the name of `old`."""
    name, meta = old.name, dict(old.meta)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{name}/replaced"
    new.name, new.shape, new.type = name, old.shape, old.type
    new.meta.clear()
    new.meta.update(meta)


def derive_node(
    node: ir.Node,
    op: str,
    inputs: Sequence[ir.Value | None],
    attributes: Attributes | None = None,
) -> ir.Node:
    """Return a new node under the name and with the metadata of `node`."""
    metadata = dict(node.metadata_props)
    return ir.node(op, inputs, attributes, name=node.name, metadata_props=metadata)


def replace_node(node: ir.Node, *new: ir.Node) -> None:
    """Put new nodes in the place of `node`; the last one takes over its first output."""
    assert node.graph is not None
    node.graph.insert_before(node, new)
    replace_value(node.outputs[0], new[-1].outputs[0])
    remove_node(node)


def bypass_node(node: ir.Node) -> bool:
    """Remove a node that only hands its first input on; False where names forbid it."""
    source, out = node.inputs[0], node.outputs[0]
    if source is None:
        return False
    if out.is_graph_output():
        if source.is_graph_input() or source.is_graph_output() or source.is_initializer():
            return False
        out.meta.update(source.meta)
        replace_value(out, source)
    else:
        out.replace_all_uses_with(source)
    remove_node(node)
    return True


def remove_node(node: ir.Node) -> None:
    """Remove a node whose outputs nobody reads."""
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def remove_if_unread(node: ir.Node) -> None:
    """Remove a node if nobody reads its first output any more."""
    if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
        remove_node(node)


def remove_unread(values: Iterable[ir.Value | None]) -> None:
    """Remove the nodes that made values which nobody reads, and those before them likewise."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        node = None if value is None else value.producer()
        if node is None or node.graph is None:
            continue
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            waiting += node.inputs
            remove_node(node)


def get_only_consumer(value: ir.Value) -> ir.Node | None:
    """Return the single reader of `value`; None when there are more, or it is an output."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def get_axes(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """Return non-negative axes given as input 1 or as attribute; None when not constant."""
    given = get_constant_input(node, 1)
    listed = node.attributes.get_ints("axes") if given is None else tuple(int(a) for a in given)
    return None if listed is None else tuple(sorted(a % rank for a in listed))
