"""Where quantizers stand: decided once, here, by the rules of a target.

A *shared-scale group* is a value that some node computes (behind its absorbed Relu), or the
network's input, together with the tensors that value-preserving nodes make of it: they share its
codes. Every consumer of a tensor in the group asks for a width:

    layer (Conv, Gemm, MatMul)    bits.activations; the residual width for first and last layers
    elementwise, normalization    the residual width, or 16 bits by a rule of the user; so does an
                                  elementwise node for an output that nobody reads

One width in the whole group: one quantizer at its root. Mixed: the root carries the widest, and
each tensor gets a narrower consumer-side requantizer for the layers that want it. That is how a
W4A4 network keeps 8-bit residual sums while its Conv read 4 bits; a sum that only such Conv read
(behind a projection shortcut) is rounded once, at their width. A layer that nobody asks anything of
still gets the residual width at its output where its kernel needs one (`Kernel.output`).

Some targets want codes of one container around a kernel (`join_containers`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS, BitWidths, NodeRules, QuantizationConfig
from dfqonnx.core.quantization_plan import (
    ActivationQuantizer,
    FloatNode,
    QuantizationPlan,
    SharedQuantizer,
    WeightQuantizer,
)
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.passes.edit import get_only_consumer, get_shape, make_unique
from dfqonnx.placement.node_rules import resolve_rules
from dfqonnx.placement.roles import Roles, assign_roles, clip_max_of
from dfqonnx.placement.shared_scales import SharedScaleGroup, find_maker, join_containers
from dfqonnx.placement.value_ranges import non_negative_values
from dfqonnx.targets.profile import TargetProfile

VOLUME_AXES = 5  # outputs, inputs, depth, height, width
HARD_SWISH_UNIT = 3.0  # where HardSwish(x) = x clip(x + 3, 0, 6) / 6 has its corners


@dataclass(frozen=True)
class _NodeWidths:
    """The widths of every node: those of a rule, else those of all, the ends being special."""

    quant: QuantizationConfig
    ruled: Mapping[str, BitWidths]  # by node name
    roles: Roles

    def of_input(self, node: ir.Node) -> int:
        """Return the width of what a node reads, and makes where nobody reads it."""
        rule = self.ruled.get(str(node.name))
        layer = self.roles.of[node] == "layer"
        if rule is not None and (layer or rule.activations > MAX_BITS):
            return rule.activations
        if layer and not self._is_end(node):
            return self.quant.bits.activations
        return self.quant.elementwise_bits

    def of_output(self, node: ir.Node) -> int:
        """Return the width that a node asks for what it makes: 16 bits where it reads as many."""
        bits = self.of_input(node)
        return bits if bits > MAX_BITS else self.quant.elementwise_bits

    def of_weights(self, node: ir.Node) -> int:
        """Return the width of a layer's weights."""
        rule, ends = self.ruled.get(str(node.name)), self.quant.first_last_bits
        if rule is not None:
            return rule.weights
        return ends if ends is not None and self._is_end(node) else self.quant.bits.weights

    def _is_end(self, node: ir.Node) -> bool:
        return node in self.roles.first or node in self.roles.last


def place_quantizers(
    model: NormalizedModel,
    quant: QuantizationConfig,
    target: TargetProfile,
    *,
    input_signed: bool,
    kept_float: Mapping[str, str] | None = None,
    rules: NodeRules | None = None,
) -> QuantizationPlan:
    """Decide for every tensor of `model` whether and how it is quantized.

    `kept_float` are further nodes to leave in float, by name, each with the reason; `rules` are
    the user's own, and one that means no node is a UsageError.
    """
    graph = model.ir.graph
    asked = resolve_rules(rules or NodeRules(), graph, frozenset(target.kernels))
    kept_float = {**asked.kept_float, **(kept_float or {})}
    roles = assign_roles(graph, target, {**model.unsupported, **kept_float})
    widths = _NodeWidths(quant, asked.bits, roles)
    non_negative = non_negative_values(graph, input_signed=input_signed)
    activations: list[ActivationQuantizer] = []
    shared: list[SharedQuantizer] = []
    inputs: dict[ir.Node, str] = {}
    taken = {value.name for node in graph for value in (*node.inputs, *node.outputs) if value}
    for group in _find_groups(graph, roles, widths, target):
        if group.bits is None:
            continue
        name, producer = str(group.root.name), group.root.producer()
        unit = _unit_of(group, roles, target)
        negative = group.root not in non_negative or unit is not None
        at_producer = ActivationQuantizer(
            name=name,
            tensor=name,
            grid=target.activations.grid(group.bits, negative=negative),
            clip_max=None if producer is None else clip_max_of(producer),
            role=_role_of(group, roles),
            asymmetric=negative and target.activations.zero_points,
            unit=unit,
            raw=_find_raw_readers(group, roles),
            power_of_two=target.power_of_two,
        )
        shared += [SharedQuantizer(str(v.name), name, str(n.name)) for v, n in group.shared]
        requantizers = _requantize_consumers(
            group, at_producer, target, negative=negative, taken=taken
        )
        activations += [_fix_codes(at_producer, group, roles, target), *requantizers]
        by_consumer = {(each.tensor, c): each.name for each in requantizers for c in each.consumers}
        for value, node, _ in group.consumers:
            inputs[node] = by_consumer.get((str(value.name), str(node.name)), name)
    plan = QuantizationPlan(
        activations=tuple(_mark_features(activations, graph, roles)),
        shared=tuple(shared),
        weights=tuple(_place_weights(graph, roles, widths, target, inputs=inputs)),
        floats=tuple(
            FloatNode(str(n.name), n.op_type, reason) for n, reason in roles.reasons.items()
        ),
        target=target.name,
        isolated=tuple(str(n.name) for n in graph if n in roles.isolated),
    )
    return _isolate_slow_volumes(plan, graph, roles, target)


def _isolate_slow_volumes(
    plan: QuantizationPlan, graph: ir.Graph, roles: Roles, target: TargetProfile
) -> QuantizationPlan:
    """Return the plan with every layer over volumes isolated that is slower on integers."""
    for node in graph:
        if roles.of[node] == "layer" and (why := _explain_slow_volume(node, target)) is not None:
            plan = plan.isolating(FloatNode(str(node.name), node.op_type, why))
    return plan


def _explain_slow_volume(node: ir.Node, target: TargetProfile) -> str | None:
    """Return why a layer over volumes is to run in float, though quantized; None where not."""
    least = target.kernels[node.op_type].volume_channels
    shape = get_shape(node.inputs[1])
    channels = None if shape is None or len(shape) != VOLUME_AXES else shape[1]
    if not isinstance(channels, int) or channels >= least:
        return None
    return f"the integer kernel for volumes of {channels} channels is slower than the float one"


def _find_groups(
    graph: ir.Graph, roles: Roles, widths: _NodeWidths, target: TargetProfile
) -> list[SharedScaleGroup]:
    groups = [SharedScaleGroup(root=value) for value in graph.inputs]
    for node in graph:
        role = roles.of[node]
        if role not in {"absorbed", "preserving", "shape"}:
            groups += [SharedScaleGroup(root=roles.end(value)) for value in node.outputs]
    for group in groups:
        if _is_added_unrounded(group.root, roles, target):
            continue
        _collect(group, group.root, roles, widths)
        if _needs_quantizer(group, roles, target):
            maker = find_maker(group.root, roles)
            assert maker is not None
            group.output_bits = widths.of_output(maker)
    if target.wide_activations is not None and target.wide_activations.one_width:
        join_containers(groups, roles)
    return groups


def _is_added_unrounded(value: ir.Value, roles: Roles, target: TargetProfile) -> bool:
    """Tell whether the kernel that makes the value hands its sums on before they are rounded."""
    reader = get_only_consumer(value)
    if reader is None or roles.of[reader] != "elementwise":
        return False
    merged = (v for v in reader.inputs if v is not None and _can_merge(v, reader, roles, target))
    return next(merged, None) is value


def _can_merge(value: ir.Value, reader: ir.Node, roles: Roles, target: TargetProfile) -> bool:
    """Tell whether the reader can be computed as part of the layer that makes the value."""
    maker = value.producer()
    if maker is None or roles.of[maker] not in {"layer", "normalization"}:
        return False
    return reader.op_type in target.kernels[maker.op_type].fused and (
        get_only_consumer(value) is reader
    )


def _needs_quantizer(group: SharedScaleGroup, roles: Roles, target: TargetProfile) -> bool:
    """Tell whether the kernel that makes the root needs its output quantized, whoever reads it."""
    node = find_maker(group.root, roles)
    if node is None:
        return False
    if roles.of[node] == "elementwise":
        return node not in roles.tail or node.op_type in target.quantized_tail
    needed = target.kernels[node.op_type].output
    return needed == "always" or (needed == "inside" and node not in roles.last)


def _collect(group: SharedScaleGroup, value: ir.Value, roles: Roles, widths: _NodeWidths) -> None:
    for read, node, index in _list_readers(group, value, roles):
        role = roles.of[node]
        if role == "elementwise" or (role in {"layer", "normalization"} and index == 0):
            group.consumers.append((read, node, widths.of_input(node)))


def _list_readers(
    group: SharedScaleGroup, value: ir.Value, roles: Roles
) -> Iterator[tuple[ir.Value, ir.Node, int]]:
    """Yield (value, node, index) of all that read a value, and the values that share its codes.

    A node that passes codes on joins the group with its outputs, and its readers come next.
    """
    waiting = [iter([(value, *use) for use in value.uses()])]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        _, node, index = found
        if roles.of[node] != "preserving" or index:
            yield found
            continue
        outputs = [o for o in node.outputs if o.name and o.dtype in {None, ir.DataType.FLOAT}]
        waiting.append(_share(group, outputs, node))  # not the indices


def _share(
    group: SharedScaleGroup, outputs: Sequence[ir.Value], node: ir.Node
) -> Iterator[tuple[ir.Value, ir.Node, int]]:
    for output in outputs:
        group.shared.append((output, node))
        yield from [(output, *use) for use in output.uses()]


def _unit_of(group: SharedScaleGroup, roles: Roles, target: TargetProfile) -> float | None:
    """Return the number of `ActivationQuantizer.unit` for a group."""
    narrow = group.bits is not None and group.bits <= MAX_BITS  # no Clip on codes of 16 bits
    node = get_only_consumer(group.root) if target.hard_swish and narrow else None
    product = node is not None and node.op_type == "HardSwish" and roles.of[node] == "elementwise"
    return HARD_SWISH_UNIT if product else None


def _fix_codes(
    quantizer: ActivationQuantizer, group: SharedScaleGroup, roles: Roles, target: TargetProfile
) -> ActivationQuantizer:
    """Return the quantizer with the codes that the maker's kernel gives its results anyway."""
    maker, wide = find_maker(group.root, roles), target.wide_activations
    if maker is None or wide is None or quantizer.grid.bits <= MAX_BITS:
        return quantizer
    fixed = wide.fixed.get(maker.op_type)
    if fixed is None:
        return quantizer
    grid = replace(quantizer.grid, zero_point=fixed.zero_point)
    return replace(quantizer, grid=grid, fixed_scale=fixed.scale, asymmetric=False)


def _requantize_consumers(
    group: SharedScaleGroup,
    at_producer: ActivationQuantizer,
    target: TargetProfile,
    *,
    negative: bool,
    taken: Container[str | None],
) -> list[ActivationQuantizer]:
    """Return the quantizers of consumers that read other bits than the root carries.

    Their names are none of the values `taken`: a quantizer at a producer has that of its value.
    """
    other: dict[tuple[str, int], list[str]] = {}
    for value, node, bits in group.consumers:
        if bits != group.bits:
            names = other.setdefault((str(value.name), bits), [])
            if str(node.name) not in names:
                names.append(str(node.name))
    return [
        replace(
            at_producer,
            name=make_unique(f"{tensor}@{bits}", taken),
            tensor=tensor,
            grid=target.activations.grid(bits, negative=negative),
            consumers=tuple(names),
            role="node-input",
            raw=(),
        )
        for (tensor, bits), names in other.items()
    ]


def _role_of(group: SharedScaleGroup, roles: Roles) -> str:
    if group.root.is_graph_input():
        return "input"
    consumers = {node for _, node, _ in group.consumers}
    if consumers & roles.last:
        return "classifier-input"
    if not consumers:
        return "output"
    residual = any(roles.of[n] == "elementwise" for n in consumers)
    return "residual" if residual else "node-input"


def _find_raw_readers(group: SharedScaleGroup, roles: Roles) -> tuple[str, ...]:
    """Return the float nodes behind the last layer that read the network's input."""
    if not group.root.is_graph_input():
        return ()
    readers = dict.fromkeys(group.root.consumers())
    return tuple(str(n.name) for n in readers if n in roles.tail and roles.of[n] == "float")


def _place_weights(
    graph: ir.Graph,
    roles: Roles,
    widths: _NodeWidths,
    target: TargetProfile,
    *,
    inputs: Mapping[ir.Node, str],
) -> list[WeightQuantizer]:
    found = []
    for node in graph:
        role = roles.of[node]
        if role not in {"layer", "normalization"}:
            continue
        bits = widths.quant.residual_bits if role == "normalization" else widths.of_weights(node)
        weight = node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        assert weight is not None
        assert weight.shape is not None
        found.append(
            WeightQuantizer(
                node=str(node.name),
                op=node.op_type,
                weight=str(weight.name),
                bias=str(bias.name) if bias is not None else None,
                grid=target.weights.grid(bits),
                axis=len(weight.shape) - 1 if node.op_type == "MatMul" else 0,
                input=inputs[node],
                per_channel=target.per_channel,
                power_of_two=target.power_of_two,
                float_bias=target.float_bias,
            )
        )
    return found


def _mark_features(
    quantizers: list[ActivationQuantizer], graph: ir.Graph, roles: Roles
) -> list[ActivationQuantizer]:
    """Mark residual sums; without any, the outputs of every second layer, the last included."""
    sums = [n for n in graph if n.op_type == "Add" and roles.of[n] == "elementwise"]
    if sums:
        chosen = {str(roles.end(n.outputs[0]).name) for n in sums}
    else:
        layers = [n for n in graph if roles.of[n] == "layer" and n not in roles.last]
        chosen = {str(roles.end(n.outputs[0]).name) for n in layers[::-1][::2]}
    return [replace(q, feature=not q.consumers and q.tensor in chosen) for q in quantizers]
