"""What each node is to the quantizers of a target.

layer          Conv, Gemm, MatMul with a constant weight: integer weight, integer input
normalization  the depthwise 1x1 Conv that stands for a left-over BatchNormalization
elementwise    any other operator that the target has a kernel for: integer in and out
absorbed       Relu or Clip(0, c) whose work the quantizer behind it does (Q saturates at 0 and
               at rint(c / scale)), so that Conv -> Relu -> Q is one integer kernel
preserving     MaxPool, Reshape, Slice ...: hands codes on, same scale in and out
float          everything else, with the reason
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from dfqonnx.graph.model import ORIGIN
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import HELD, get_constant, get_only_consumer, get_shape
from dfqonnx.graph.passes.merge_clips import get_clip_bounds
from dfqonnx.graph.trainable_region import explain_no_layer, is_layer
from dfqonnx.targets.profile import Kernel, TargetProfile

Role = Literal["layer", "normalization", "elementwise", "absorbed", "preserving", "shape", "float"]
_BEHIND = "it stands behind the last layer, on values that no integer node reads"
_LOADED = "its values are constants, which the runtime computes when it loads the file"
_ATTRIBUTE = "its {} is one that no integer kernel of {} computes"
_NOT_ALONE = "it is not the only one to read what a quantized node makes"
_SQUARE = "squares have twice the range of what is squared, in orders of magnitude"
_CONSTANT = "one operand is a constant; only sums and products of two tensors fuse"
_TINY = 1e-30  # whose square is none in float32


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The role of every node, and why a node stays in float."""

    of: dict[ir.Node, Role]
    reasons: dict[ir.Node, str]
    first: frozenset[ir.Node]  # without another layer before them (they read the network's input)
    last: frozenset[ir.Node]  # without another layer behind them (classifiers)
    tail: frozenset[ir.Node]  # nodes behind which there is no layer any more
    isolated: frozenset[ir.Node]  # float nodes to be kept apart from the quantizers around them

    def end(self, value: ir.Value) -> ir.Value:
        """Return the value behind an absorbed Relu or Clip, else `value` itself."""
        reader = get_only_consumer(value)
        if reader is not None and self.of.get(reader) == "absorbed":
            return reader.outputs[0]
        return value


def assign_roles(
    graph: ir.Graph, target: TargetProfile, unsupported: Mapping[str, str] | None = None
) -> Roles:
    """Give every node its role; layers are judged first, since the rest depends on them.

    `unsupported` are nodes that cannot be computed, or stand behind one, with the reason.
    """
    nodes = list(graph)
    unsupported = {**_explain_held(nodes), **(unsupported or {})}
    layers = {
        node
        for node in nodes
        if is_layer(node)
        and node.op_type in target.kernels
        and ORIGIN not in node.metadata_props
        and str(node.name) not in unsupported
    }
    behind = _reached(nodes, layers, ir.Node.predecessors)
    before = _reached(reversed(nodes), layers, ir.Node.successors)
    tail = frozenset(n for n in nodes if n not in before and n not in layers)
    roles: dict[ir.Node, Role] = {}
    reasons: dict[ir.Node, str] = {}
    constants: set[ir.Value | None] = set(graph.initializers.values())
    for node in nodes:
        if node in layers:
            roles[node] = "layer"
            continue
        role, reason = _judge(node, roles, target, tail=node in tail)
        if role not in {"shape", "absorbed"} and _repeats_constant(node, constants):
            role, reason = "float", _LOADED
        if str(node.name) in unsupported:
            role, reason = "float", unsupported[str(node.name)]
        roles[node] = role
        if role == "float":
            reasons[node] = reason
    return Roles(
        of=roles,
        reasons=reasons,
        first=frozenset(n for n in layers if n not in behind),
        last=frozenset(n for n in layers if n not in before),
        tail=tail,
        isolated=frozenset(n for n in reasons if _is_separated(n, target)),
    )


def _explain_held(nodes: Iterable[ir.Node]) -> dict[str, str]:
    """Return why nodes that read an input with one given value stay in float, by node name."""
    held: dict[ir.Value, str] = {}
    reasons: dict[str, str] = {}
    for node in nodes:
        given = [value for value in node.inputs if value is not None]
        held.update({value: str(value.name) for value in given if HELD in value.meta})
        name = next((held[value] for value in given if value in held), None)
        if name is None:
            continue
        reasons[str(node.name)] = f"of the input {name!r} one value is known, and no range"
        computed = [v for v in given if v not in held and not v.is_initializer()]
        if all(value.dtype == ir.DataType.INT64 for value in computed):
            held.update(dict.fromkeys(node.outputs, name))
    return reasons


def _repeats_constant(node: ir.Node, constants: set[ir.Value | None]) -> bool:
    """Tell whether the numbers of the results are constants, and add these to `constants`."""
    given = [value for value in node.inputs if value is not None]
    moved = has_trait(node.op_type, Trait.MOVES) and node.inputs[0] in constants
    moved &= all(v in constants or v.dtype == ir.DataType.INT64 for v in given)
    if not moved and not (given and constants.issuperset(given)):
        return False
    constants.update(node.outputs)
    return True


def _is_separated(node: ir.Node, target: TargetProfile) -> bool:
    """Tell whether the target's optimizer would touch a node that is left in float."""
    return node.op_type in target.separated or _find_unknown_attribute(node, target) is not None


def _judge(
    node: ir.Node, roles: Mapping[ir.Node, Role], target: TargetProfile, *, tail: bool
) -> tuple[Role, str]:
    if all(o.dtype is not None and o.dtype != ir.DataType.FLOAT for o in node.outputs):
        return "shape", ""
    if _is_absorbed(node, roles, target, tail=tail):
        return "absorbed", ""
    if tail and node.op_type not in target.quantized_tail:
        return "float", _BEHIND
    kernel = target.kernels.get(node.op_type)
    if kernel is not None and is_layer(node):
        return "normalization", ""
    if _preserves_values(node):
        return "preserving", ""
    if _is_activation(node, target):
        return "elementwise", ""
    if kernel is None:
        return "float", target.float_reason(node.op_type)
    why = _explain_unfit(node, kernel, roles, target)
    return ("elementwise", "") if why is None else ("float", why)


def _explain_unfit(
    node: ir.Node, kernel: Kernel, roles: Mapping[ir.Node, Role], target: TargetProfile
) -> str | None:
    """Return why a kernel of this operator does not fit the node; None where it does."""
    constant = [get_constant(value) is not None for value in node.inputs]
    if node.op_type == "HardSwish" and target.hard_swish and not reads_alone(node, roles, target):
        return _NOT_ALONE
    if has_trait(node.op_type, Trait.LAYER) and not (kernel.computed and not any(constant)):
        return explain_no_layer(node)
    if (name := _find_unknown_attribute(node, target)) is not None:
        return _ATTRIBUTE.format(name, target.runtime)
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return _SQUARE
    if not any(constant) or kernel.constants:
        return None
    return None if kernel.numbers and _moves_codes(node, roles, target) else _CONSTANT


def _moves_codes(node: ir.Node, roles: Mapping[ir.Node, Role], target: TargetProfile) -> bool:
    """Tell whether a sum or product with one number stands between integer nodes."""
    found = find_number(node)
    if found is None:
        return False
    source, result = node.inputs[1 - found[0]], node.outputs[0]
    maker = None if source is None else source.producer()
    readers = result.consumers()
    kinds = target.kernels.keys() | target.absorbed
    return (
        maker is not None
        and roles.get(maker, "float") not in {"float", "shape"}
        and bool(readers)
        and not result.is_graph_output()
        and get_shape(source) == get_shape(result)
        and all(reader.op_type in kinds or _preserves_values(reader) for reader in readers)
    )


def find_number(node: ir.Node) -> tuple[int, float] | None:
    """Return which operand is a single number that a scale can be, and the number."""
    for index, value in enumerate(node.inputs):
        array = get_constant(value)
        if array is not None and array.size == 1:
            number = float(array.reshape(-1)[0])
            return (index, number) if _TINY < abs(number) < 1 / _TINY else None
    return None


def reads_alone(node: ir.Node, roles: Mapping[ir.Node, Role], target: TargetProfile) -> bool:
    """Tell whether a HardSwish may have a quantizer of its own kind in front of it."""
    source = node.inputs[0]
    maker = None if source is None else source.producer()
    if source is None or maker is None or get_only_consumer(source) is not node:
        return False
    quantized = roles.get(maker) in {"layer", "normalization", "elementwise"}
    return target.hard_swish and target.integer_clip and quantized


def _find_unknown_attribute(node: ir.Node, target: TargetProfile) -> str | None:
    """Return an attribute that the node sets and the integer kernel does not know; None without."""
    kernel = target.kernels.get(node.op_type)
    for name in sorted(kernel.neutral) if kernel is not None else ():
        attribute = node.attributes.get(name)
        if attribute is None:
            continue
        several = attribute.type == ir.AttributeType.INTS
        if any(each != 1 for each in attribute.as_ints()) if several else attribute.as_int() != 0:
            return name
    return None


def _is_absorbed(
    node: ir.Node, roles: Mapping[ir.Node, Role], target: TargetProfile, *, tail: bool
) -> bool:
    source = node.inputs[0] if _is_activation(node, target) else None
    producer = source.producer() if source is not None else None
    if source is None or producer is None or get_only_consumer(source) is not node:
        return False
    kernel, role = target.kernels.get(producer.op_type), roles.get(producer)
    if role == "float":
        return not tail
    integer = role in {"layer", "normalization", "elementwise"}
    return integer and kernel is not None and kernel.absorbs


def _is_activation(node: ir.Node, target: TargetProfile) -> bool:
    """Tell whether the node is one that a kernel or a quantizer of the target can take over."""
    if node.op_type not in target.absorbed:
        return False
    return node.op_type != "Clip" or clip_max_of(node) is not None


def clip_max_of(node: ir.Node) -> float | None:
    """Return c of a Clip(0, c) with a finite constant c; None for anything else."""
    limits = get_clip_bounds(node) if node.op_type == "Clip" else None
    if limits is None or limits[0] != 0.0 or not 0.0 < limits[1] < float("inf"):
        return None
    return limits[1]


def _preserves_values(node: ir.Node) -> bool:
    """Tell whether codes stay codes: nearest resizing, padding by zeros or by values of its own."""
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") == "nearest"
    if node.op_type != "Pad":
        return has_trait(node.op_type, Trait.VALUE_PRESERVING)
    if node.attributes.get_string("mode", "constant") != "constant":
        return True
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    value = get_constant(fill)
    return fill is None or (value is not None and not value.any())


def _reached(
    nodes: Iterable[ir.Node],
    layers: set[ir.Node],
    neighbors: Callable[[ir.Node], Sequence[ir.Node]],
) -> set[ir.Node]:
    """Return the nodes that the way through `neighbors` leads to a layer; they come before."""
    found: set[ir.Node] = set()
    for node in nodes:
        if any(other in layers or other in found for other in neighbors(node)):
            found.add(node)
    return found
