"""Rules about quantizers on the way between layers: pairs, repetitions, what is only moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnx import NodeProto, TensorProto

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.qdq_graph import QdqGraph, attribute, is_integer_operator, label, passes_on
from dfqonnx.lint.rule import MEASURED, Place, place, register_rule
from dfqonnx.lint.rules_of_types import on_onnxruntime_cpu
from dfqonnx.targets.profile import TargetProfile

_MOST_STEPS = 8
_COMPARES = Trait.CLAMP | Trait.VALUE_PRESERVING
_ON_CODES = Trait.CODES | Trait.VALUE_PRESERVING | Trait.MOVES | Trait.EXTREMUM | Trait.CLAMP


def _repeated(graph: QdqGraph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Iterate over a QuantizeLinear that only reads another's DequantizeLinear, and that one.

    A Clip on the codes of the second one keeps runtimes from merging the two.
    """
    for node, _encoding in graph.activations():
        before = graph.maker(node.input[0], "DequantizeLinear")
        alone = len(graph.readers.get(node.input[0], ())) == 1
        behind = graph.readers.get(node.output[0], [])
        plain = bool(behind) and all(each.op_type == "DequantizeLinear" for each in behind)
        if before is not None and alone and plain and not graph.is_constant(before.input[0]):
            yield node, before


@register_rule(
    109,
    "two-quantizers-in-a-row",
    "error",
    title="a quantizer directly behind another one with other numbers",
    cost="ONNX Runtime merges the two when it loads the file and computes something else: 11 541 of"
    " 50 176 codes were wrong",
    mend="keep one quantizer; where the second is meant to be coarser, put a Clip on its codes",
    source=MEASURED,
    applies=on_onnxruntime_cpu,
)
def _two_in_a_row(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, before in _repeated(graph):
        if not graph.encoding(node).same(graph.encoding(before)):
            yield place(node, f"behind {label(before)!r}", layers=graph.layers_around(node))


@register_rule(
    110,
    "quantizer-repeated",
    "note",
    title="a quantizer directly behind an identical one",
    cost="none where the runtime merges them, else two conversions",
    mend="remove one",
    source=MEASURED,
)
def _quantizer_repeated(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, before in _repeated(graph):
        if graph.encoding(node).same(graph.encoding(before)):
            yield place(node, f"behind {label(before)!r}", layers=graph.layers_around(node))


@register_rule(
    111,
    "moved-values-requantized",
    "warning",
    title="values that are only moved (MaxPool, Reshape, Resize ...) get another scale behind it",
    cost="the operator runs in float between two conversions, and the values are rounded twice",
    mend="give the quantizer behind it the scale and zero point of the one in front",
    source=MEASURED,
)
def _moved_requantized(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type in target.kernels or not node.input or not _moves(node):
            continue
        before = graph.maker(node.input[0], "DequantizeLinear")
        behind = [reader for out in node.output for reader in graph.readers.get(out, ())]
        if before is None or graph.is_constant(before.input[0]):
            continue
        encoding = graph.encoding(before)
        for reader in behind:
            if reader.op_type == "QuantizeLinear" and not graph.encoding(reader).same(encoding):
                yield place(node, f"quantized again by {label(reader)!r}")


def _moves(node: NodeProto) -> bool:
    """Tell whether every number that a node makes is one that it reads."""
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") == b"nearest")
    return has_trait(node.op_type, Trait.VALUE_PRESERVING)


@register_rule(
    112,
    "mean-without-kernel",
    "warning",
    title="ReduceMean over the image between quantizers",
    cost="it runs in float between two conversions",
    mend="write GlobalAveragePool (and a Flatten): its integer kernel fuses",
    source=MEASURED,
    applies=lambda target: (
        "GlobalAveragePool" in target.kernels and "ReduceMean" not in target.kernels
    ),
)
def _mean_without_kernel(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.of("ReduceMean"):
        given = graph.array(node.input[1]) if len(node.input) > 1 else None
        axes = attribute(node, "axes", []) if given is None else given.flatten().tolist()
        rank = len(graph.shapes.get(node.input[0], ()))
        over_image = rank == 4 and sorted(axis % rank for axis in axes) == [2, 3]
        if over_image and _between_quantizers(graph, node):
            yield place(node)


def _between_quantizers(graph: QdqGraph, node: NodeProto) -> bool:
    readers: Sequence[NodeProto] = graph.readers.get(node.output[0], ())
    quantized = any(reader.op_type == "QuantizeLinear" for reader in readers)
    return quantized and graph.dequantized(node.input[0])


@register_rule(
    113,
    "softmax-fused",
    "note",
    title="Softmax between quantizers becomes a table of exponentials",
    cost="2 to 12 % of its codes are one level off what the file says",
    mend="leave Softmax in float (op_types_to_quantize), or put a Sum of one operand in front",
    source=MEASURED,
    applies=lambda target: "Softmax" in target.separated,
)
def _softmax_fused(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.of("Softmax"):
        if _between_quantizers(graph, node):
            yield place(node)


@register_rule(
    114,
    "quantizer-without-use",
    "note",
    title="a quantizer between operators that run in float anyway",
    cost="two conversions and a rounding, for no integer kernel",
    mend="remove QuantizeLinear and DequantizeLinear there",
    source=f"{MEASURED} (Elu, quantizer, Tanh: all run in float)",
)
def _quantizer_without_use(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node, _encoding in graph.activations():
        maker = graph.makers.get(node.input[0])
        if maker is not None and (_has_kernel(graph, maker, target) or passes_on(maker.op_type)):
            continue
        readers = graph.readers_of_reals(node.output[0])
        useful = any(_has_kernel(graph, reader, target) for reader in readers)
        apart = any(graph.separates(reader.output[0]) for reader in readers if reader.output)
        if readers and not useful and not apart and not _reaches_output(graph, node):
            before = "the model's input" if maker is None else maker.op_type
            yield place(node, f"between {before} and {readers[0].op_type}")


def _has_kernel(graph: QdqGraph, node: NodeProto, target: TargetProfile) -> bool:
    """Tell whether a node, or what it stands behind as an activation, may run on integers."""
    op = node.op_type
    if op in target.kernels or is_integer_operator(op) or has_trait(op, Trait.WEIGHTED):
        return True
    maker = graph.makers.get(node.input[0]) if node.input else None
    return op in target.absorbed and maker is not None and maker.op_type in target.kernels


def _reaches_output(graph: QdqGraph, quantize: NodeProto) -> bool:
    names = list(quantize.output)
    for reader in graph.readers.get(quantize.output[0], ()):
        names += reader.output
    return any(name in graph.outputs for name in names)


@register_rule(
    120,
    "activation-behind-quantizer",
    "warning",
    title="a quantizer between a layer and the activation that its kernel would absorb",
    cost="two conversions more, and the activation runs in float where the quantizer behind keeps"
    " more than it; negative numbers get codes that nobody needs",
    mend="remove the quantizer in front of the activation",
    source=MEASURED,
    applies=on_onnxruntime_cpu,
)
def _activation_behind_quantizer(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if node.op_type not in target.absorbed or not _between_quantizers(graph, node):
            continue
        pair = graph.makers[node.input[0]]
        quantize = graph.maker(pair.input[0], "QuantizeLinear")
        alone = len(graph.readers[pair.output[0]]) == 1
        maker = None if quantize is None else graph.makers.get(quantize.input[0])
        kernel = None if maker is None else target.kernels.get(maker.op_type)
        alone &= len(graph.readers[pair.input[0]]) == 1 and not graph.outputs & {*pair.output}
        if alone and maker is not None and kernel is not None and kernel.absorbs:
            yield place(node, f"behind {label(maker)!r}")


@register_rule(
    116,
    "half-a-quantizer",
    "warning",
    title="QuantizeLinear and DequantizeLinear that make no pair",
    cost="codes are read as numbers or by nobody, or floats are taken for codes: nothing fuses",
    mend="follow each QuantizeLinear by DequantizeLinear with the same scale and zero point",
    source="https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html; " + MEASURED,
)
def _half_a_quantizer(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, _encoding in graph.activations():
        readers = graph.readers.get(node.output[0], [])
        if not readers and node.output[0] not in graph.outputs:
            yield place(node, "nobody reads its codes")
        for reader in readers:
            known = has_trait(reader.op_type, _ON_CODES) or is_integer_operator(reader.op_type)
            if not known and not _compares_codes(graph, reader):
                yield place(node, f"{reader.op_type} {label(reader)!r} reads its codes")
    for node in graph.of("DequantizeLinear"):
        if not graph.readers.get(node.output[0]) and node.output[0] not in graph.outputs:
            yield place(node, "nobody reads its output")
        elif not _reads_codes_of_a_quantizer(graph, node.input[0]):
            yield place(node, f"its input {node.input[0]!r} comes from no QuantizeLinear")


def _compares_codes(graph: QdqGraph, cast: NodeProto) -> bool:
    """Tell whether codes are cast to be bounded or pooled, and cast back behind it."""
    compared = graph.readers.get(cast.output[0], [])
    behind = [each for node in compared for each in graph.readers.get(node.output[0], [])]
    return (
        cast.op_type == "Cast"
        and bool(behind)
        and all(has_trait(node.op_type, _COMPARES) for node in compared)
        and all(node.op_type == "Cast" for node in behind)
    )


def _reads_codes_of_a_quantizer(graph: QdqGraph, name: str) -> bool:
    """Tell whether a value holds codes, as far as it can be followed."""
    if graph.is_constant(name):
        return True
    for _ in range(_MOST_STEPS):
        maker = graph.makers.get(name)
        if maker is None or not maker.input:
            return True  # what a user feeds is typed by the model's inputs
        if maker.op_type == "QuantizeLinear" or is_integer_operator(maker.op_type):
            return True
        if not has_trait(maker.op_type, Trait.ELEMENTWISE | Trait.MOVES | Trait.VALUE_PRESERVING):
            kind = int(attribute(maker, "to", 0))
            return maker.op_type != "Cast" or kind != TensorProto.FLOAT
        name = maker.input[0]
    return True


@register_rule(
    117,
    "pool-attribute-ignored",
    "error",
    title="an attribute that the integer kernel ignores or refuses",
    cost="QLinearAveragePool counts what ceil_mode adds as zeros (up to 128 levels off); a file"
    " with dilations does not load",
    mend="leave the node in float (nodes_to_exclude, --keep-float)",
    source=MEASURED,
    applies=lambda target: (
        any(kernel.neutral for kernel in target.kernels.values()) and target.on_onnxruntime_cpu
    ),
)
def _pool_attribute(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        kernel = target.kernels.get(node.op_type)
        if kernel is None or not kernel.neutral or not _between_quantizers(graph, node):
            continue
        for name in sorted(kernel.neutral):
            value = attribute(node, name, None)
            if any(each != 1 for each in value) if isinstance(value, list) else value:
                yield place(node, f"{name} = {value}")


@register_rule(
    119,
    "summand-rounded",
    "warning",
    title="a quantizer between a layer and the sum that the runtime merges it into",
    cost="it is dropped, so the runtime computes something else than was trained: ResNet-20 at W4A4"
    " 18.6 dB from the file's numbers, 32 dB at W8A8",
    mend="quantize for this target (dfqonnx run --target openvino), which trains without it",
    source="measured here with OpenVINO 2026.4.1 on x86-64",
    applies=lambda target: any(kernel.fused for kernel in target.kernels.values()),
)
def _summand_rounded(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        pairs = [graph.maker(name, "DequantizeLinear") for name in node.input]
        if len(pairs) < 2 or None in pairs:
            continue
        for pair in pairs:
            codes = None if pair is None else graph.maker(pair.input[0], "QuantizeLinear")
            if pair is None or codes is None or len(graph.readers[pair.output[0]]) > 1:
                continue
            makes = graph.layers_making(codes.input[0])
            ops = (graph.layers[name].op_type for name in makes)
            if any(op in target.kernels and node.op_type in target.kernels[op].fused for op in ops):
                yield place(node, f"its operand {pair.output[0]!r}", layers=makes)
