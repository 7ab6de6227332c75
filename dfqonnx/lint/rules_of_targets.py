"""Rules that rest on one fact of a target's profile each, mostly of accelerators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.qdq_graph import UNSIGNED, QdqGraph, is_integer_layer, label
from dfqonnx.lint.rule import MEASURED, Place, layer_place, place, register_rule
from dfqonnx.lint.rules_of_placement import quantized_layers
from dfqonnx.targets.profile import TargetProfile

_TENSORRT_PAGES = (
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
    "work-quantized-types.html"
)
_VITIS_PAGES = "https://mqbench.readthedocs.io/en/latest/user_guide/hardware/vitis.html"


@register_rule(
    301,
    "zero-point-not-zero",
    "error",
    title="a zero point other than 0",
    cost="the parser refuses the file: 'TRT only supports symmetric quantization - zeroPt must be"
    " all zeros'; of weights, all accelerators want symmetric ones",
    mend="train or calibrate symmetric int8 codes for this target (dfqonnx run --target)",
    source=f"{_TENSORRT_PAGES}; https://github.com/onnx/tensorflow-onnx/issues/1713;"
    f" {_VITIS_PAGES}",
    applies=lambda target: not target.on_onnxruntime_cpu and not target.weights.zero_points,
)
def _zero_point_not_zero(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    if not target.activations.zero_points:
        for node, encoding in graph.activation_codes():
            if encoding.zero_point is not None and encoding.zero_point.any():
                detail = f"zero point {encoding.zero_point.flat[0]}"
                yield place(node, detail, layers=graph.layers_reading(node.output[0]))
    for layer, _weight, encoding in graph.weights():
        zero = encoding.zero_point
        if encoding.kind not in UNSIGNED and zero is not None and zero.any():
            yield layer_place(
                graph, layer, f"its weight's zero points {zero.min()} to {zero.max()}"
            )


@register_rule(
    302,
    "unsigned-codes",
    "error",
    title="uint8 codes for a target that takes int8",
    cost="TensorRT reads them as int8 with a warning: every code above 127 becomes negative",
    mend="int8 codes: zero point z becomes z - 128; where 0 is wanted, calibrate again",
    source=f"{_TENSORRT_PAGES}; the target's profile",
    applies=lambda target: target.activations.signed,
)
def _unsigned_codes(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activation_codes():
        if encoding.kind in UNSIGNED:
            yield place(node, layers=graph.layers_reading(node.output[0]))
    for layer, _weight, encoding in graph.weights():
        if encoding.kind in UNSIGNED:
            yield layer_place(graph, layer, "its weight")


def _on_codes(graph: QdqGraph, matches: Callable[[str], bool]) -> Iterator[Place]:
    """Iterate over nodes, by their operator, that read the codes of an activation."""
    for node in graph.nodes:
        if not matches(node.op_type):
            continue
        maker = graph.makers.get(node.input[0])
        if maker is not None and maker.op_type == "QuantizeLinear":
            yield place(node, layers=graph.layers_reading(node.output[0]))


@register_rule(
    303,
    "clip-on-codes",
    "error",
    title="a Clip on the codes of an activation",
    cost="it breaks the group that the accelerator takes: QNN refuses the session, TensorRT and the"
    " others do not fuse",
    mend="8-bit activations for this target (dfqonnx run --bits w4a8 --target)",
    source="measured here in the x86-64 emulator of onnxruntime-qnn 2.7.0; the target's profile",
    applies=lambda target: not target.integer_clip,
)
def _clip_on_codes(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    yield from _on_codes(graph, lambda op: has_trait(op, Trait.CLAMP | Trait.EXTREMUM))


@register_rule(
    304,
    "pad-on-codes",
    "error",
    title="a Pad on the codes of an activation",
    cost="the tensor behind it has no quantization parameters: QNN refuses the whole session, and"
    " MNN fails on the shape",
    mend="pad the reals, or leave the Pad out (dfqonnx run --target writes none here)",
    source="measured here in the x86-64 emulator of onnxruntime-qnn 2.7.0 and with MNN 3.6.1",
    applies=lambda target: not target.integer_pad,
)
def _pad_on_codes(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    yield from _on_codes(graph, lambda op: op == "Pad")


@register_rule(
    305,
    "int32-bias",
    "error",
    title="an int32 bias behind DequantizeLinear",
    cost="the parser refuses it: 'only activation types allowed as input to this layer'",
    mend="store biases as floats",
    source="https://github.com/onnx/onnx-tensorrt/issues/850;"
    " https://github.com/microsoft/onnxruntime/issues/14229",
    applies=lambda target: target.float_bias,
)
def _int32_bias(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer in graph.layers.values():
        if len(layer.input) > 2 and graph.dequantized(layer.input[2]):
            yield layer_place(graph, layer)


@register_rule(
    306,
    "float-bias",
    "note",
    title="a float bias of a layer that runs on integers",
    cost="ONNX Runtime rounds it to int32 when it loads the file: 2 to 9 of 12 544 codes move by a"
    " level from what the file says",
    mend="store it as int32 at input scale times weight scale",
    source=MEASURED,
    applies=lambda target: target.on_onnxruntime_cpu and not target.float_bias,
)
def _float_bias(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer in quantized_layers(graph, target):
        if len(layer.input) > 2 and layer.input[2] and not is_integer_layer(layer.op_type):
            stored = graph.constant(layer.input[2])
            if stored is not None and not graph.dequantized(layer.input[2]):
                yield layer_place(graph, layer)


@register_rule(
    307,
    "scale-not-power-of-two",
    "error",
    title="a scale that is no power of two",
    cost="the hardware shifts instead of multiplying: it rounds the scale, and all numbers change",
    mend="train with such scales (dfqonnx run --target vitisai)",
    source=_VITIS_PAGES,
    applies=lambda target: target.power_of_two,
)
def _not_power_of_two(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if not has_trait(node.op_type, Trait.CODES):
            continue
        scale = graph.encoding(node).scale
        if scale is None:
            continue
        usable = scale[np.isfinite(scale) & (scale > 0)]
        off = usable[np.frexp(usable)[0] != 0.5]
        if off.size:
            detail = f"{off.size} of {scale.size} scales, such as {off.flat[0]:.6g}"
            yield place(node, detail, layers=graph.layers_reading(node.output[0]))


@register_rule(
    308,
    "weight-scales-per-channel",
    "error",
    title="a weight with a scale for each channel",
    cost="the target takes one scale for a whole weight",
    mend="train with one scale for each weight (dfqonnx run --target vitisai)",
    source=_VITIS_PAGES,
    applies=lambda target: not target.per_channel,
)
def _per_channel(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, _weight, encoding in graph.weights():
        if encoding.scale is not None and encoding.scale.size > 1:
            yield layer_place(graph, layer, f"{encoding.scale.size} scales")


@register_rule(
    309,
    "accelerator-left",
    "warning",
    title="a layer that the accelerator cannot take as a whole group",
    cost="it runs on the CPU, with copies before and behind: QNN supports no float Conv, and may"
    " refuse the session",
    mend="quantize input, weight and output of every layer, or leave the layer out on purpose",
    source="https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html;"
    " https://github.com/microsoft/onnxruntime/issues/18351",
    applies=lambda target: not target.integer_clip and not target.on_onnxruntime_cpu,
)
def _accelerator_left(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for layer in graph.layers.values():
        bare = graph.weight_of(layer).dequantize is None and not graph.reads_codes(layer.input[0])
        if bare and layer.op_type in target.kernels and not is_integer_layer(layer.op_type):
            yield layer_place(graph, layer, f"{label(layer)!r} is all float")


@register_rule(
    310,
    "codes-compared-as-signed",
    "error",
    title="a Clip or MaxPool on uint8 codes",
    cost="IREE compares them as int8, and each code above 127 counts as a negative one: a Clip to"
    " codes 50 to 100 got 128 of 256 wrong, a text detector with a Clip in each HardSwish came out"
    " at 0 dB",
    mend="Cast to float32, the Clip or MaxPool, and Cast back to uint8 (dfqonnx run --target writes"
    " them so)",
    source="measured here in IREE 3.13.0",
    applies=lambda target: bool(target.signed_comparisons),
)
def _compared_as_signed(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type in target.signed_comparisons and _reads_unsigned(graph, node):
            yield place(node, layers=graph.layers_reading(node.output[0]))


def _reads_unsigned(graph: QdqGraph, node: NodeProto) -> bool:
    """Tell whether a node reads unsigned codes, also moved ones."""
    name = node.input[0]
    while (maker := graph.makers.get(name)) is not None and maker.input:
        if maker.op_type == "QuantizeLinear":
            return graph.encoding(maker).kind in UNSIGNED
        if not has_trait(maker.op_type, Trait.VALUE_PRESERVING) and maker.op_type != node.op_type:
            return False
        name = maker.input[0]
    return False
