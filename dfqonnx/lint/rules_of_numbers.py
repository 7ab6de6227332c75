"""Rules about scales, zero points and stored codes.

bias scale  =  input scale x weight scale        per output channel, as float32
weights     =  one scale per output channel: axis 0 of Conv and of a transposed Gemm
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.qdq_graph import CODE_LIMITS, EIGHT_BITS, QdqGraph, attribute, label, name_kind
from dfqonnx.lint.rule import MEASURED, Place, layer_place, place, register_rule
from dfqonnx.lint.rules_of_types import ONNX_OPERATORS, ORT_DOCS, on_onnxruntime_cpu
from dfqonnx.targets.profile import TargetProfile

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_LARGEST_BIAS = 2**31 - 1
_TOLERATED = 1e-3  # relative, of a bias scale: 1e-4 off changed nothing, 1e-2 did
_MUCH = 1.5  # a factor: 2.5 off was not fused, 1 % off was
_AT_THE_ENDS = 0.2  # of a tensor's codes
_FEW_CODES = 8  # on either side of 0: fewer than 4 bits are used
_MANY_CHANNELS = 0.1
_WIDE = 4.0
_DISTINCT = 16  # codes of a tensor that is more than a few levels


@register_rule(
    201,
    "bad-scale",
    "error",
    title="a scale that is zero, negative, not finite or subnormal",
    cost="values become zero, infinite or NaN, and devices that flush subnormals disagree",
    mend="calibrate again: the tensor was constant, or its range was lost",
    source=f"{ONNX_OPERATORS}/onnx__QuantizeLinear.html (y = x / scale); {MEASURED}",
)
def _bad_scale(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        if not has_trait(node.op_type, Trait.CODES):
            continue
        encoding = graph.encoding(node)
        scale = encoding.scale
        if scale is None or not scale.size:
            continue
        # a bias of a channel without weights: the runtime multiplies the scales itself
        least = 0.0 if encoding.kind == TensorProto.INT32 else _SMALLEST_NORMAL
        bad = scale[~(np.isfinite(scale) & (scale > 0) & (scale >= least))]
        if bad.size:
            detail = f"{bad.size} of {scale.size} scales, such as {bad.flat[0]:.3g}"
            yield place(node, detail, layers=_around(graph, node))


def _around(graph: QdqGraph, node: NodeProto) -> frozenset[str]:
    return graph.layers_reading(node.output[0]) | graph.layers_making(node.input[0])


@register_rule(
    202,
    "bias-scale",
    "warning",
    title="an int32 bias whose scale is not the input's times the weight's",
    cost="up to some percent off, the scale is ignored and codes change by a level; further off, or"
    " one scale for a layer with one per channel, the layer runs in float",
    mend="write the bias at input scale times weight scale, one per output channel",
    source=MEASURED,
)
def _bias_scale(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, _weight, encoding in graph.weights():
        bias = graph.maker(layer.input[2], "DequantizeLinear") if len(layer.input) > 2 else None
        source = graph.maker(layer.input[0], "DequantizeLinear")
        if bias is None or source is None:
            continue
        given, inner = graph.encoding(bias), graph.encoding(source).scale
        if given.scale is None or encoding.scale is None or inner is None or inner.size != 1:
            continue
        if given.scale.size != encoding.scale.size:
            detail = f"{given.scale.size} scales of the bias, {encoding.scale.size} of the weight"
            yield layer_place(graph, layer, detail)
            continue
        yield from _off(graph, layer, given.scale, inner * encoding.scale)


def _off(
    graph: QdqGraph, layer: NodeProto, given: NDArray[np.float64], right: NDArray[np.float64]
) -> Iterator[Place]:
    """Report a bias whose `given` scales are not the `right` ones, both of shape (channels,)."""
    with np.errstate(all="ignore"):
        ratio = given.flatten() / right.flatten()
        off = ~(np.abs(ratio - 1) <= _TOLERATED)
    if off.any() and (right > 0).all():
        worst = ratio[off][int(np.argmax(np.abs(np.log(np.abs(ratio[off]) + 1e-30))))]
        what = "in float" if not 1 / _MUCH < worst < _MUCH else "the scale is ignored"
        yield layer_place(graph, layer, f"{worst:.4g} times what it should be: {what}")


@register_rule(
    203,
    "bias-saturated",
    "error",
    title="an int32 bias at the end of its range",
    cost="the bias is cut off: the scales of the layer's weights are too small for it",
    mend="raise the weight's scale in those channels until the bias fits into 31 bits",
    source=f"{ONNX_OPERATORS}/onnx__QuantizeLinear.html (saturation)",
)
def _bias_saturated(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer in graph.layers.values():
        bias = graph.maker(layer.input[2], "DequantizeLinear") if len(layer.input) > 2 else None
        codes = None if bias is None else graph.array(bias.input[0])
        if codes is not None and codes.dtype == np.int32:
            count = int((np.abs(codes.astype(np.int64)) >= _LARGEST_BIAS).sum())
            if count:
                yield layer_place(graph, layer, f"{count} of {codes.size} channels")


@register_rule(
    204,
    "weights-saturated",
    "warning",
    title="a large part of a weight's codes stands at the ends of the range",
    cost="these weights are cut off: the scale is too small for them",
    mend="choose the scale that minimizes the error (dfqonnx searches it), or the largest value's",
    source=f"{ONNX_OPERATORS}/onnx__QuantizeLinear.html (saturation): a fifth or more of at least"
    f" {_DISTINCT} different codes",
)
def _weights_saturated(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, weight, encoding in graph.weights():
        codes = None if weight.tensor is None else graph.array(weight.tensor.name)
        if codes is None or encoding.kind not in EIGHT_BITS or not codes.size:
            continue
        if codes.dtype.kind not in "iu":
            continue
        ends = np.isin(codes, (-128, -127, 127) if encoding.kind == TensorProto.INT8 else (0, 255))
        scales = 1 if encoding.scale is None else encoding.scale.size
        share = (int(ends.sum()) - scales) / codes.size  # the largest of each is there anyway
        if share >= _AT_THE_ENDS and np.unique(codes).size >= _DISTINCT:
            yield layer_place(graph, layer, f"{100 * share:.0f} % of {codes.size} codes")


def _output_axis(layer: NodeProto, rank: int) -> int:
    """Return the axis of a layer's weight along which outputs lie."""
    if layer.op_type == "MatMul":
        return rank - 1
    if layer.op_type == "Gemm":
        return 0 if attribute(layer, "transB", 0) else 1
    return 1 if layer.op_type == "ConvTranspose" else 0


@register_rule(
    205,
    "weight-axis",
    "error",
    title="a weight's scales do not lie along its output channels",
    cost="ONNX Runtime takes them for output channels: with as many inputs as outputs the numbers"
    " are wrong without a word (30 % off), else the layer fails at the first run",
    mend="axis 0 for Conv and a transposed Gemm, 1 for Gemm, the last one for MatMul",
    source=f"{MEASURED} (a Conv with scales along axis 1)",
)
def _weight_axis(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, weight, encoding in graph.weights():
        if weight.tensor is None or encoding.scale is None or weight.moved or encoding.blocked:
            continue
        rank = len(weight.tensor.dims)
        if encoding.scale.size < 2 or not rank:
            continue
        axis, right = encoding.axis % rank, _output_axis(layer, rank)
        grouped = layer.op_type == "ConvTranspose" and attribute(layer, "group", 1) != 1
        if axis != right and not grouped:
            yield layer_place(graph, layer, f"axis {axis} of {rank}, outputs lie along {right}")


@register_rule(
    206,
    "parameter-sizes",
    "error",
    title="not one scale or zero point for each channel",
    cost="the file does not load, or fails at the first run",
    mend="one scale and one zero point for each index along `axis`",
    source=f"{ONNX_OPERATORS}/onnx__DequantizeLinear.html",
)
def _parameter_sizes(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.of("DequantizeLinear"):
        encoding, stored = graph.encoding(node), graph.constant(node.input[0])
        scale, zero = encoding.scale, encoding.zero_point
        if scale is None or encoding.blocked:
            continue
        rank = 0 if stored is None else len(stored.dims)
        if scale.size > 1 and rank and not -rank <= encoding.axis < rank:
            yield place(node, f"axis {encoding.axis} of {rank}")
            continue
        if zero is not None and zero.size != scale.size:
            yield place(node, f"scale {list(scale.shape)}, zero point {list(zero.shape)}")
        if stored is None or scale.size < 2 or scale.ndim != 1 or not stored.dims:
            continue
        size = stored.dims[encoding.axis % len(stored.dims)]
        if scale.size != size:
            yield place(node, f"{scale.size} scales, {size} channels along axis {encoding.axis}")


@register_rule(
    212,
    "zero-point-type",
    "error",
    title="codes of one type with a zero point of another",
    cost="the file is not valid: checker and runtimes refuse it",
    mend="give the zero point the type of the codes",
    source=f"{ONNX_OPERATORS}/onnx__DequantizeLinear.html",
)
def _zero_point_type(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node in graph.of("DequantizeLinear"):
        stored = graph.constant(node.input[2]) if len(node.input) > 2 else None
        kind = graph.kind(node.input[:1])
        if stored is not None and kind and kind != stored.data_type:
            yield place(node, f"{name_kind(kind)} and {name_kind(stored.data_type)}")


@register_rule(
    207,
    "activation-scales-per-channel",
    "error",
    title="an activation with a scale for each channel",
    cost="no integer kernel has that: ONNX Runtime fuses the layer and fails at the first run",
    mend="one scale for the whole tensor; scales of channels belong to weights",
    source=MEASURED,
)
def _activation_per_channel(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        if encoding.scale is not None and encoding.scale.size > 1:
            yield place(node, f"{encoding.scale.size} scales", layers=graph.layers_around(node))


@register_rule(
    208,
    "activation-scale-of-rank-1",
    "error",
    title="the scale of an activation around a sum, product or pool is a list of one number",
    cost="the file does not load: 'Scale and Zero-point must be a scalar'",
    mend="store scale and zero point without dimensions (shape [], not [1])",
    source=f"{MEASURED} (QLinearAdd, QLinearMul, QLinearAveragePool)",
    applies=on_onnxruntime_cpu,
)
def _scale_of_rank_one(graph: QdqGraph, target: TargetProfile) -> Iterator[Place]:
    for node in graph.nodes:
        plain = node.op_type in target.kernels and not has_trait(node.op_type, Trait.WEIGHTED)
        if not plain or node.op_type == "Concat":
            continue
        pairs = [graph.maker(name, "DequantizeLinear") for name in node.input]
        pairs += [r for r in graph.readers.get(node.output[0], ()) if r.op_type == "QuantizeLinear"]
        for pair in pairs:
            scale = None if pair is None else graph.encoding(pair).scale
            if pair is not None and scale is not None and scale.shape == (1,):
                yield place(node, f"scale of {label(pair)!r}")
                break


@register_rule(
    209,
    "pair-unlike",
    "warning",
    title="DequantizeLinear has another scale or zero point than its QuantizeLinear",
    cost="what is read is not what was written: every value is scaled or shifted",
    mend="give both the same scale and zero point",
    source=f"{ONNX_OPERATORS}/onnx__DequantizeLinear.html",
)
def _pair_unlike(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        readers = graph.readers.get(node.output[0], [])
        pairs = [each for each in readers if each.op_type == "DequantizeLinear"]
        alike = any(graph.encoding(each).same(encoding) for each in pairs)
        if pairs and len(pairs) == len(readers) and not alike:
            yield place(node, f"read by {label(pairs[0])!r}", layers=graph.layers_around(node))


@register_rule(
    210,
    "channels-with-few-codes",
    "warning",
    title="one scale for a whole weight leaves some channels a few codes",
    cost=f"channels with at most {_FEW_CODES - 1} codes on either side of 0 have 4 bits or fewer",
    mend="one scale per output channel (per_channel=True)",
    source=f"{ORT_DOCS} (per-channel weights); the codes themselves",
    applies=lambda target: target.per_channel,
)
def _few_codes(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for layer, weight, encoding in graph.weights():
        codes = None if weight.tensor is None else graph.array(weight.tensor.name)
        scale, zero = encoding.scale, encoding.zero_point
        if codes is None or scale is None or zero is None or scale.size != 1 or weight.moved:
            continue
        if encoding.kind not in EIGHT_BITS or codes.dtype.kind not in "iu" or codes.ndim < 2:
            continue
        axis = _output_axis(layer, codes.ndim)
        rest = tuple(each for each in range(codes.ndim) if each != axis)
        most = np.abs(codes.astype(np.int64) - int(zero.flat[0])).max(axis=rest)
        few = int(((most > 0) & (most < _FEW_CODES)).sum())
        if most.max() > 8 * _FEW_CODES and few > _MANY_CHANNELS * most.size:
            yield layer_place(graph, layer, f"{few} of {most.size} channels")


@register_rule(
    211,
    "codes-unused",
    "warning",
    title="a quantizer whose range is over four times that of the values in front of it",
    cost="two bits or more of each code are never used, and the steps are as much coarser",
    mend="a scale at which the codes end where the values do (calibrate again)",
    source="closed form: Sigmoid and Softmax end at 0 and 1, Tanh at -1 and 1",
)
def _codes_unused(graph: QdqGraph, _: TargetProfile) -> Iterator[Place]:
    for node, encoding in graph.activations():
        maker, scale, zero = graph.makers.get(node.input[0]), encoding.scale, encoding.zero_point
        if maker is None or scale is None or zero is None or scale.size != 1 or zero.size != 1:
            continue
        readers = graph.readers.get(node.output[0], [])
        behind = [r for d in readers for r in graph.readers.get(d.output[0], ())]
        narrowed = any(has_trait(reader.op_type, Trait.CLAMP) for reader in [*readers, *behind])
        limits = CODE_LIMITS.get(encoding.kind)
        if limits is None or narrowed:
            continue
        low, high = _value_bounds(maker)
        most = (limits[1] - int(zero.flat[0])) * float(scale.flat[0])
        least = (limits[0] - int(zero.flat[0])) * float(scale.flat[0])
        if most > _WIDE * high > 0 and (low >= 0 or least < _WIDE * low):
            detail = (
                f"{least:.3g} to {most:.3g}, behind {maker.op_type} from {low:.3g} to {high:.3g}"
            )
            yield place(node, detail, layers=graph.layers_around(node))


def _value_bounds(node: NodeProto) -> tuple[float, float]:
    """Return what the values of a node lie between, infinite where nothing is known.

    A Clip is not asked: in front of a quantizer it may make a grid of fewer bits on purpose.
    """
    probability = has_trait(node.op_type, Trait.SOFTMAX) and has_trait(
        node.op_type, Trait.NON_NEGATIVE
    )
    if probability or node.op_type.endswith("Sigmoid"):
        return 0.0, 1.0
    return (-1.0, 1.0) if node.op_type == "Tanh" else (-math.inf, math.inf)
