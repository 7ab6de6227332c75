"""Rules about where quantizers stand around layers: what keeps one from its integer kernel.

    DequantizeLinear -- Conv -- (Relu) -- QuantizeLinear        one integer kernel
    DequantizeLinear -- Conv -- HardSwish -- QuantizeLinear     Conv and HardSwish in float

What a kernel needs, and which activations it absorbs, is read from the target's profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import NodeProto

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.qdq_graph import (
    CODE_LIMITS,
    QdqGraph,
    attribute,
    clip_bounds,
    is_integer_layer,
    label,
    weight_place,
)
from dfqonnx.lint.rule import MEASURED, Place, layer_place, place, register_rule
from dfqonnx.lint.rules_of_types import ORT_DOCS, ORT_ISSUES, on_onnxruntime_cpu
from dfqonnx.targets.profile import TargetProfile

_STEPS = 8
_BATCH_NORM = "BatchNormalization"
Ending = Literal["fine", "missing", "float too", "several", "activation", "range", "operand"]


@dataclass(frozen=True)
class Behind:
    """What stands between a layer and the quantizer of its output."""

    ending: Ending
    node: NodeProto | None = None  # the one that is in the way


def find_behind(graph: QdqGraph, layer: NodeProto, target: TargetProfile) -> Behind:
    """Follow a layer's output to its QuantizeLinear, past what runtimes look through."""
    name, limits = layer.output[0], list[NodeProto]()
    for _ in range(_STEPS):
        readers = graph.readers.get(name, [])
        quantizers = [node for node in readers if node.op_type == "QuantizeLinear"]
        if len({tuple(node.input) for node in quantizers}) == 1 and len(quantizers) > 1:
            # written alike, with the same tensors: the runtime makes one of them
            readers = [node for node in readers if node not in quantizers[1:]]
        if quantizers and (len(readers) > 1 or name in graph.outputs):
            others = [node for node in readers if node.op_type != "QuantizeLinear"]
            plain = not others and name not in graph.outputs
            return Behind("several" if plain else "float too", next(iter(others), None))
        if quantizers:
            kept = (node for node in limits if not _is_redundant(graph, node, quantizers[0]))
            blocking = next(kept, None) if target.on_onnxruntime_cpu else None
            return Behind("fine") if blocking is None else Behind("range", blocking)
        if name in graph.outputs or len(readers) != 1 or not readers[0].output:
            return Behind("missing")
        (reader,) = readers
        if _is_joint(graph, reader, target):
            return Behind("operand", reader)
        if reader.op_type in target.absorbed:
            limits.append(reader)
        elif not has_trait(reader.op_type, Trait.VALUE_PRESERVING) or reader.op_type == "Flatten":
            behind = graph.readers.get(reader.output[0], ())
            quantized = any(node.op_type == "QuantizeLinear" for node in behind)
            return Behind("activation", reader) if quantized else Behind("missing")
        name = reader.output[0]
    return Behind("missing")


def _is_joint(graph: QdqGraph, node: NodeProto, target: TargetProfile) -> bool:
    """Tell whether a node joins several computed values on integers, if all are quantized."""
    if node.op_type not in target.kernels or has_trait(node.op_type, Trait.WEIGHTED):
        return False
    return sum(bool(name) and not graph.is_constant(name) for name in node.input) > 1


def _is_redundant(graph: QdqGraph, limit: NodeProto, quantize: NodeProto) -> bool:
    """Tell whether a Relu or Clip changes nothing that its quantizer keeps.

    So the smallest and the largest real number that has a code must lie within its bounds.
    """
    encoding = graph.encoding(quantize)
    scale, zero, codes = encoding.scale, encoding.zero_point, CODE_LIMITS.get(encoding.kind)
    if scale is None or zero is None or codes is None or scale.size != 1 or zero.size != 1:
        return True
    low, high = ((code - int(zero.flat[0])) * float(scale.flat[0]) for code in codes)
    least, most = clip_bounds(graph, limit)
    return least <= low and bool(np.float32(high) <= np.float32(most))


def quantized_layers(graph: QdqGraph, target: TargetProfile) -> Iterator[NodeProto]:
    """Iterate over the layers with a kernel whose input and weight are both quantized."""
    for layer in graph.layers.values():
        known = layer.op_type in target.kernels
        if known and graph.reads_codes(layer.input[0]) and graph.weight_of(layer).dequantize:
            yield layer


def _endings(
    graph: QdqGraph, target: TargetProfile, ending: Ending
) -> Iterator[tuple[NodeProto, NodeProto | None]]:
    """Iterate over quantized layers whose output needs a quantizer and ends like that.

    So do sums, products and Concats of codes, but for a `missing` quantizer: it costs no layer.
    """
    joints = _quantized_joints(graph, target) if ending != "missing" else iter(())
    for layer in (*quantized_layers(graph, target), *joints):
        needed = target.kernels[layer.op_type].output
        if needed == "never" or (needed == "inside" and not _feeds_layers(graph, layer)):
            continue
        behind = find_behind(graph, layer, target)
        if behind.ending == ending:
            yield layer, behind.node


def _quantized_joints(graph: QdqGraph, target: TargetProfile) -> Iterator[NodeProto]:
    """Iterate over nodes that join several computed values, all of them codes."""
    for node in graph.nodes:
        joint = target.on_onnxruntime_cpu and _is_joint(graph, node, target)
        computed = (name for name in node.input if name and not graph.is_constant(name))
        if joint and all(map(graph.reads_codes, computed)):
            yield node


def _feeds_layers(graph: QdqGraph, layer: NodeProto) -> bool:
    """Tell whether another layer with quantized weights computes with what this one makes."""
    waiting, seen = list(layer.output), set(layer.output)
    while waiting:
        for node in graph.readers.get(waiting.pop(), ()):
            if any(graph.layers.get(output) is not None and graph.weight_of(node).dequantize
                   for output in node.output[:1]):  # fmt: skip
                return True
            fresh = [output for output in node.output if output not in seen]
            seen.update(fresh)
            waiting += fresh
    return False


@register_rule(
    101,
    "input-not-quantized",
    "warning",
    title="a layer with quantized weights reads floats",
    cost="the layer runs in float, at float's speed or less: the weights are expanded first",
    mend="put QuantizeLinear and DequantizeLinear in front of it",
    source=f"{MEASURED}: a Conv or a transposed Gemm with weights alone quantized stays float",
)
def _input_not_quantized(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, weight, _encoding in graph.weights():
        product = layer.op_type == "MatMul" or (
            layer.op_type == "Gemm" and not attribute(layer, "transB", 0)
        )  # with floats, ONNX Runtime has a kernel of its own: MatMulNBits
        known = layer.op_type in target.kernels and not product and weight.dequantize is not None
        if known and not graph.reads_codes(layer.input[0]) and not graph.separates(layer.input[0]):
            yield layer_place(graph, layer, f"its input {layer.input[0]!r} is float")


@register_rule(
    102,
    "weight-not-quantized",
    "warning",
    title="a layer that reads codes has float weights",
    cost="with a quantizer behind it ONNX Runtime rounds the weights to 8 bits itself, with one"
    " scale for all channels (18 to 25 % of the codes behind a layer moved); others run in float",
    mend="quantize the weights (a simplifier may have folded them: run it before quantizing), or"
    " leave the layer's quantizers out",
    source=MEASURED,
)
def _weight_not_quantized(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    folded = next(graph.weights(), None) is None  # no weight has kept its codes
    for layer in graph.layers.values():
        if layer.op_type not in target.kernels or is_integer_layer(layer.op_type):
            continue
        if not graph.reads_codes(layer.input[0]) or graph.weight_of(layer).dequantize is not None:
            continue
        if folded or find_behind(graph, layer, target).ending not in {"missing", "activation"}:
            name = layer.input[weight_place(layer.op_type)]
            yield layer_place(graph, layer, f"its weight {name!r} is float")


@register_rule(
    103,
    "output-not-quantized",
    "warning",
    title="no quantizer behind a layer that needs one",
    cost="the layer runs in float, its inputs are converted: one missing quantizer in each residual"
    " block takes ResNet-20 from 2.2 to 1.0 times float's speed. On QNN it leaves the accelerator",
    mend="quantize its output; behind the last layer, with a range from calibration",
    source=f"{MEASURED}; QNN's emulator runs a Gemm without output quantizer on the CPU",
)
def _output_not_quantized(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, _node in _endings(graph, target, "missing"):
        yield layer_place(graph, layer, f"its output {layer.output[0]!r} is not quantized")


@register_rule(
    104,
    "output-read-as-float",
    "warning",
    title="a layer's output is quantized, and read as floats as well",
    cost="the layer runs in float: an integer kernel gives its output to one quantizer alone",
    mend="let all readers read behind DequantizeLinear",
    source=f"{MEASURED}; {ORT_DOCS}",
    applies=on_onnxruntime_cpu,
)
def _output_read_as_float(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, node in _endings(graph, target, "float too"):
        reader = "the model's output" if node is None else f"{node.op_type} {label(node)!r}"
        yield layer_place(graph, layer, f"{reader} reads it in float")


@register_rule(
    105,
    "several-quantizers",
    "warning",
    title="several quantizers on one layer's output",
    cost="the layer runs in float, even where their scales are alike (only those that share their"
    " tensors are merged): an integer kernel gives its output to one quantizer alone",
    mend="keep one QuantizeLinear and let all readers share it; a coarser one may follow behind its"
    " DequantizeLinear",
    source=f"{MEASURED} (a Conv with two quantizers, alike and unlike, stays Conv)",
    applies=on_onnxruntime_cpu,
)
def _several_quantizers(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, _node in _endings(graph, target, "several"):
        yield layer_place(graph, layer)


@register_rule(
    106,
    "activation-not-absorbed",
    "warning",
    title="an activation between a layer and its quantizer that the kernel does not absorb",
    cost="layer and activation run in float: MobileNetV2 with HardSwish at 0.45 of float's speed,"
    " a chain of Conv, Relu and int8 codes with zero point 0 at 0.75",
    mend="Relu: zero point at the smallest code. Clip: a scale at which the codes end at its bound,"
    " or the bound as a Clip on the codes. Others: a quantizer between layer and activation",
    source=MEASURED,
)
def _activation_not_absorbed(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, node in _endings(graph, target, "activation"):
        if node is not None and node.op_type != _BATCH_NORM:
            yield layer_place(graph, layer, f"{node.op_type} {label(node)!r} stands behind it")
    for layer, node in _endings(graph, target, "range"):
        if node is not None:
            detail = f"the quantizer behind {node.op_type} {label(node)!r} keeps more than it"
            yield layer_place(graph, layer, detail)


@register_rule(
    107,
    "batch-normalization-left",
    "warning",
    title="BatchNormalization in front of a quantizer",
    cost="it runs in float, and so does a layer whose output it reads",
    mend="fold it into the layer before quantizing (dfqonnx run does; quant_pre_process, too), or"
    " write it as a depthwise Conv",
    source=f"{MEASURED}; {ORT_ISSUES}/9938",
)
def _batch_normalization(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer, node in _endings(graph, target, "activation"):
        if node is not None and node.op_type == _BATCH_NORM:
            yield layer_place(graph, layer, f"{label(node)!r}")
    for node in graph.of(_BATCH_NORM):
        readers = graph.readers.get(node.output[0], ())
        quantized = any(reader.op_type == "QuantizeLinear" for reader in readers)
        if quantized and graph.reads_codes(node.input[0]) and not graph.separates(node.input[0]):
            yield place(node, "between two quantizers")


@register_rule(
    108,
    "operand-not-quantized",
    "warning",
    title="an operand of a sum, product or Concat is not quantized",
    cost="it runs in float, and so do the layers that feed it: ResNet-20 without quantizers on the"
    " inputs of its sums at 0.8 to 1.1 of float's speed, 2.2 to 2.4 with them",
    mend="quantize every operand",
    source=f"{MEASURED}; {ORT_ISSUES}/12487",
)
def _operand_not_quantized(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    quantized = frozenset(layer.output[0] for layer in quantized_layers(graph, target))
    for node in graph.nodes:
        kernel = target.kernels.get(node.op_type)
        if kernel is None or not _is_joint(graph, node, target):
            continue
        operands = [name for name in node.input if name and not graph.is_constant(name)]
        bare = [name for name in operands if not graph.reads_codes(name)]
        merged = frozenset[str]().union(*(graph.layers_making(name) for name in bare)) & quantized
        if any(node.op_type in target.kernels[op].fused for op in _kernels(graph, merged, target)):
            continue  # on purpose: the runtime adds such a layer's sums before it rounds them
        behind = graph.readers.get(node.output[0], ())
        partly = len(bare) < len(operands) and any(
            reader.op_type == "QuantizeLinear" for reader in behind
        )
        if bare and (merged or partly):
            yield place(node, f"its operand {bare[0]!r} is float", layers=merged)


def _kernels(graph: QdqGraph, layers: frozenset[str], target: TargetProfile) -> Iterator[str]:
    ops = (graph.layers[name].op_type for name in layers)
    return (op for op in ops if op in target.kernels)


@register_rule(
    115,
    "layer-without-kernel",
    "warning",
    title="a quantized layer for which the target has no integer kernel",
    cost="it runs in float between conversions; ONNX Runtime rounds a float weight of it to 8 bits"
    " with one scale for all channels",
    mend="leave it out (nodes_to_exclude, --keep-float): the file is faster and more precise",
    source=f"{MEASURED}; the target's profile",
)
def _layer_without_kernel(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer in graph.layers.values():
        unknown = layer.op_type not in target.kernels
        weighted = has_trait(layer.op_type, Trait.WEIGHTED)
        if not (unknown and weighted) or graph.separates(layer.input[0]):
            continue
        stored = graph.weight_of(layer).dequantize is not None
        readers = graph.readers.get(layer.output[0], ())
        around = graph.reads_codes(layer.input[0]) and any(
            node.op_type == "QuantizeLinear" for node in readers
        )
        if stored or around:
            yield layer_place(graph, layer, target.float_reason(layer.op_type))


@register_rule(
    118,
    "small-volume-convolution",
    "warning",
    title="an integer Conv over three axes with few input channels",
    cost="its integer kernel took 14 times as long as the float one with 1 input channel, 20 times"
    " with 3, twice with 8",
    mend="leave it in float (nodes_to_exclude, --keep-float)",
    source=MEASURED,
    applies=lambda target: any(kernel.volume_channels for kernel in target.kernels.values()),
)
def _small_volume(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer in quantized_layers(graph, target):
        least = target.kernels[layer.op_type].volume_channels
        weight = graph.weight_of(layer).tensor
        if weight is not None and least and len(weight.dims) == 5 and weight.dims[1] < least:
            yield layer_place(graph, layer, f"{weight.dims[1]} input channels a group")
