"""Rules about how codes are stored: the form of the file, element types, versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import NodeProto, TensorProto, defs

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.qdq_graph import (
    EIGHT_BITS,
    FOUR_BITS,
    SIXTEEN_BITS,
    UNSIGNED,
    QdqGraph,
    name_kind,
)
from dfqonnx.lint.rule import MEASURED, Place, layer_place, place, register_rule
from dfqonnx.targets.profile import TargetProfile

ORT_DOCS = "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"
ORT_ISSUES = "https://github.com/microsoft/onnxruntime/issues"
ONNX_OPERATORS = "https://onnx.ai/onnx/operators"
_FIRST_OPSET = {  # of an element type in QuantizeLinear and DequantizeLinear of ONNX itself
    **dict.fromkeys(("INT4", "UINT4", "INT16", "UINT16"), 21),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 19),
    **dict.fromkeys(("INT2", "UINT2"), 25),
    "FLOAT4E2M1": 23,
}


def on_onnxruntime_cpu(target: TargetProfile) -> bool:
    """Tell whether the kernels of ONNX Runtime's CPU provider run the file."""
    return target.on_onnxruntime_cpu


@register_rule(
    1,
    "qoperator-format",
    "warning",
    title="quantized operators (QLinearConv ...) instead of QuantizeLinear and DequantizeLinear",
    cost="only ONNX Runtime's CPU provider is fast with them: CUDA copies each back to the CPU,"
    " TensorRT's parser has none of them, and the rules about quantizers cannot look inside",
    mend="quantize again with quant_format=QuantFormat.QDQ",
    source=f"{ORT_DOCS} (representation formats); {ORT_ISSUES}/24807;"
    " https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md",
)
def _qoperator_format(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type.startswith("QLinear") or node.op_type == "QGemm":
            yield layer_place(graph, node, node.op_type)


@register_rule(
    2,
    "dynamic-quantization",
    "warning",
    title="ranges of activations are computed at each run",
    cost="a Conv so quantized runs at 1.0 times the speed of float, where fixed ranges give 3.4"
    " (four 3x3 Convs of 64 channels); accelerators do not take it",
    mend="quantize with fixed ranges: dfqonnx run on the float model, or quantize_static",
    source=f"{ORT_DOCS} (dynamic quantization); speed {MEASURED}",
)
def _dynamic_quantization(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type.startswith("DynamicQuantize") or "Integer" in node.op_type:
            yield layer_place(graph, node, node.op_type)


def _stays_signed(graph: QdqGraph, quantize: NodeProto) -> str:
    """Return why ONNX Runtime does not rewrite a quantizer from int8 to uint8; "" if it does."""
    codes = quantize.output[0]
    readers = graph.readers.get(codes, [])
    if any(reader.op_type != "DequantizeLinear" for reader in readers):
        return f"{readers[0].op_type} stands between QuantizeLinear and DequantizeLinear"
    reals = [node.output[0] for node in readers]
    count = sum(len(graph.readers.get(real, ())) for real in reals)
    return f"it is read by {count} nodes" if count > 1 else ""


@register_rule(
    3,
    "int8-activations",
    "warning",
    title="int8 activations that stay int8, where kernels want uint8",
    cost="the Convs, Gemms and Adds around run in float: ResNet-20 at 0.84 to 0.90 of float's"
    " speed, 2.2 to 2.4 with uint8; session.qdqisint8allowed=1 makes it 0.2",
    mend="quantize activations to uint8 (activation_type=QuantType.QUInt8): zero point z becomes"
    " z + 128 and the numbers stay",
    source=f"{MEASURED}; {ORT_DOCS} (data type selection)",
    applies=on_onnxruntime_cpu,
)
def _int8_activations(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        reason = _stays_signed(graph, node)
        if encoding.kind == TensorProto.INT8 and reason:
            detail = f"{reason}, so ONNX Runtime does not rewrite it to uint8"
            yield place(node, detail, layers=graph.layers_around(node))


@register_rule(
    4,
    "int8-activations-rewritten",
    "note",
    title="int8 activations that are rewritten to uint8 when the file is loaded",
    cost="none in speed with default options on x86-64; a second reader of such a value, or"
    " session.qdqisint8allowed=1, leaves its layers in float or makes them 4 to 6 times slower",
    mend="quantize activations to uint8 (activation_type=QuantType.QUInt8)",
    source=f"{MEASURED}; {ORT_DOCS} (data type selection)",
    applies=on_onnxruntime_cpu,
)
def _int8_rewritten(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    found = [node for node, each in graph.activations() if each.kind == TensorProto.INT8]
    if not any(_stays_signed(graph, node) for node in found):  # else the rule above says all
        for node in found:
            yield place(node, layers=graph.layers_around(node))


@register_rule(
    5,
    "uint8-weights",
    "warning",
    title="uint8 weights",
    cost="the slow kernel: ResNet-20 at 0.66 to 0.95 of float's speed and ResNet-18 at 1.4 times,"
    " where int8 weights give 2.2 to 2.4 and 3.4",
    mend="store weights as int8 with zero point 0 (weight_type=QuantType.QInt8)",
    source=MEASURED,
    applies=on_onnxruntime_cpu,
)
def _uint8_weights(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, _weight, encoding in graph.weights():
        if encoding.kind == TensorProto.UINT8:
            yield layer_place(graph, layer)


@register_rule(
    6,
    "asymmetric-weights",
    "warning",
    title="int8 weights whose real 0 is not code 0",
    cost="one more sum over the activations for each output: 10 to 16 % slower on ONNX Runtime"
    " (four 3x3 Convs of 64 channels); TensorRT, QNN and most accelerators refuse it",
    mend="quantize weights symmetrically (WeightSymmetric=True, the default for int8)",
    source=f"{MEASURED}; ONNX Runtime's QNN helper makes symmetric weights only: {ORT_DOCS}",
    applies=on_onnxruntime_cpu,
)
def _asymmetric_weights(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, _weight, encoding in graph.weights():
        zero = encoding.zero_point
        if encoding.kind not in UNSIGNED and zero is not None and zero.any():
            yield layer_place(graph, layer, f"zero points {zero.min()} to {zero.max()}")


@register_rule(
    7,
    "int4-weights-without-cast",
    "warning",
    title="4-bit weights go straight into DequantizeLinear",
    cost="no integer kernel: the weights are expanded to floats at every run, at 0.4 to 0.7 of"
    " float's speed (OpenVINO: float kernels too)",
    mend="put Cast(to=INT8) between the INT4 tensor and DequantizeLinear: it folds when the file is"
    " loaded, the file stays small, and the kernels are integer",
    source=f"{MEASURED}, and with OpenVINO 2026.4.1",
    applies=lambda target: any(not packing.bare for packing in target.packings),
)
def _int4_without_cast(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, weight, encoding in graph.weights():
        bare = encoding.kind in FOUR_BITS and not weight.casts
        if bare and graph.reads_codes(layer.input[0]):
            yield layer_place(graph, layer, name_kind(encoding.kind))


@register_rule(
    8,
    "4-bit-activations",
    "error",
    title="activations in a true 4-bit type",
    cost="with 8-bit weights the file does not load; behind a Relu with a zero point in the middle"
    " the Relu is deleted and up to 43 % of the codes are wrong; else everything is float",
    mend="keep 4-bit codes in uint8: QuantizeLinear, Clip(0, 15) on the codes, DequantizeLinear",
    source=MEASURED,
    applies=lambda target: target.on_onnxruntime_cpu or target.least_activations is not None,
)
def _four_bit_activations(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        if encoding.kind in FOUR_BITS:
            yield place(node, name_kind(encoding.kind), layers=graph.layers_around(node))


@register_rule(
    9,
    "16-bit-activations",
    "warning",
    title="16-bit activations",
    cost="no integer kernel takes them: the layers around run in float, with conversions",
    mend="quantize activations to uint8; 16 bits are for accelerators that have such kernels, such"
    " as Qualcomm's HTP (dfqonnx run --target onnxruntime-qnn --bits w8a16)",
    source=f"{MEASURED} (Conv between uint16 quantizers stays Conv); the profiles of accelerators,"
    " see docs/targets.md",
    applies=lambda target: (
        target.wide_activations is None or not target.wide_activations.on_integers
    ),
)
def _sixteen_bit_activations(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        if encoding.kind in SIXTEEN_BITS:
            yield place(node, name_kind(encoding.kind), layers=graph.layers_around(node))


@register_rule(
    10,
    "type-newer-than-opset",
    "error",
    title="an element type that the file's opset does not have",
    cost="the file is not valid: checker and runtimes refuse it",
    mend="raise the opset (16-bit and 4-bit codes: 21, float8: 19, 2-bit codes: 25), or use the"
    " operators of the domain com.microsoft, which only ONNX Runtime knows",
    source=f"{ONNX_OPERATORS}/onnx__QuantizeLinear.html",
)
def _type_newer_than_opset(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if has_trait(node.op_type, Trait.CODES) and not node.domain:
            kind = name_kind(graph.encoding(node).kind)
            first = _FIRST_OPSET.get(kind.upper(), 0)
            if graph.opset < first:
                detail = f"{kind} is there from opset {first}, the file has {graph.opset}"
                yield place(node, detail)


@register_rule(
    11,
    "contrib-domain",
    "error",
    title="QuantizeLinear or DequantizeLinear of the domain com.microsoft",
    cost="no other runtime than ONNX Runtime knows these operators",
    mend="raise the opset to 21 and write the operators of ONNX itself",
    source=f"{ORT_DOCS}; quantize_static writes them for 16 and 4 bits below opset 21",
    applies=lambda target: "ONNX Runtime" not in target.runtime,
)
def _contrib_domain(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if has_trait(node.op_type, Trait.CODES) and node.domain not in {"", "ai.onnx"}:
            yield place(node, node.domain)


@register_rule(
    12,
    "int4-not-loadable",
    "error",
    title="4-bit tensors for a runtime that does not know them",
    cost="the file does not load: ONNX Runtime before 1.23 lacks the Cast and before 1.20 the"
    " type; tract, TVM, IREE and OpenCV lack the type",
    mend="store the codes as int8 (dfqonnx run --weight-storage int8): the same numbers, twice the"
    " size",
    source="measured here with ONNX Runtime 1.18.1, 1.20.1, 1.22.1 and 1.23.2, tract 0.23.9,"
    " IREE 3.13, TVM 0.27, OpenCV 5.0",
    applies=lambda target: not target.packings,
)
def _int4_not_loadable(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for name, tensor in graph.constants.items():
        if tensor.data_type in FOUR_BITS:
            readers = graph.readers.get(name, ())
            users = [layer for node in readers for layer in graph.layers_reading(node.output[0])]
            yield Place(name, name_kind(tensor.data_type), frozenset(users))


@register_rule(
    13,
    "opset-too-new",
    "error",
    title="an opset that the target does not read",
    cost="the file is refused",
    mend="quantize for this target again (dfqonnx run --target), or convert the file down",
    source="the target's profile, see docs/targets.md",
    applies=lambda target: not target.newer_opsets,
)
def _opset_too_new(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    newest = max(version.opset for version in target.opsets)
    if graph.opset > newest:
        yield Place("the file", f"opset {graph.opset}, {target.runtime} takes {newest} at most")


@register_rule(
    14,
    "float-weights-behind-quantizer",
    "note",
    title="weights stored as floats in front of their own quantizer",
    cost="the file is four times as large; runtimes fold the codes when they load it",
    mend="store the codes: weights as int8 with one DequantizeLinear",
    source=f"{MEASURED}: such weights fuse, and the file stays as large as the float one",
)
def _float_weights_behind_quantizer(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, weight, _encoding in graph.weights():
        if weight.quantize is not None:
            yield layer_place(graph, layer)


@register_rule(
    15,
    "activation-kinds-mixed",
    "warning",
    title="a node reads codes of one width and writes codes of another",
    cost="it runs in float, or on the CPU beside an accelerator: an integer kernel has one"
    " type on both sides",
    mend="give both sides one width, with a second quantizer in front of readers of another one",
    source=f"{MEASURED} (uint8 in, uint16 out); on Qualcomm's HTP (emulator, onnxruntime-qnn 2.7)"
    " the weights of such a Conv went to the CPU",
    applies=lambda target: (
        on_onnxruntime_cpu(target)
        or (target.wide_activations is not None and target.wide_activations.one_width)
    ),
)
def _mixed_kinds(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    layers = {id(layer) for layer in graph.layers.values()}
    for node in graph.nodes:
        is_layer = id(node) in layers
        if not is_layer and node.op_type not in target.kernels:
            continue
        before = _kinds_read(graph, node.input[:1] if is_layer else node.input)
        after = _kinds_made(graph, node.output[0], target)
        wide = {kind for kind in (*before, *after) if kind}
        if before and after and wide - EIGHT_BITS and wide & EIGHT_BITS:
            detail = f"{name_kind(before[0])} in, {name_kind(after[0])} out"
            if len(set(before)) > 1:
                detail = f"{' and '.join(map(name_kind, before))} in"
            yield layer_place(graph, node, detail) if is_layer else place(node, detail)


def _kinds_read(graph: QdqGraph, inputs: Sequence[str]) -> list[int]:
    makers = (graph.maker(name, "DequantizeLinear") for name in inputs)
    return [
        graph.encoding(maker).kind
        for maker in makers
        if maker is not None and not graph.is_constant(maker.input[0])
    ]


def _kinds_made(graph: QdqGraph, name: str, target: TargetProfile) -> list[int]:
    readers = graph.readers.get(name, [])
    if len(readers) == 1 and readers[0].op_type in target.absorbed:
        readers = graph.readers.get(readers[0].output[0], [])
    return [graph.encoding(node).kind for node in readers if node.op_type == "QuantizeLinear"]


@register_rule(
    16,
    "attribute-newer-than-opset",
    "error",
    title="an attribute that QuantizeLinear or DequantizeLinear does not have at the file's opset",
    cost="the file is not valid: checker and runtimes refuse it",
    mend="raise the opset: `axis` (scales of channels) is there from 13, `block_size` from 21",
    source=f"{ONNX_OPERATORS}/onnx__DequantizeLinear.html",
)
def _attribute_newer_than_opset(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if not has_trait(node.op_type, Trait.CODES) or node.domain or not node.attribute:
            continue
        try:
            known = defs.get_schema(node.op_type, graph.opset, "").attributes
        except defs.SchemaError:  # before opset 10 there is no such operator
            known = {}
        for each in node.attribute:
            if each.name not in known:
                yield place(node, f"{each.name} at opset {graph.opset}")
