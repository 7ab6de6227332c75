"""What export refuses to write, and what it writes about a file.

Parameters that do not fit are a mistake of ours: they must end in an InternalError, never in a file
that means something else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from dfqonnx.core.quantization import BitWidths, IntegerRange, QuantizationConfig
from dfqonnx.core.quantization_plan import (
    ActivationParameters,
    QuantizationParameters,
    WeightParameters,
    WeightQuantizer,
)
from dfqonnx.errors import InternalError, UnsupportedModel, UsageError
from dfqonnx.export.activations import quantize
from dfqonnx.export.export import export
from dfqonnx.export.first_conv_padding import missing_channels, pad_weight
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.metadata import (
    attach,
    describe,
    recorded_image_size,
    recorded_quantization,
)
from dfqonnx.export.opset import choose_opset
from dfqonnx.export.weights import check_weight
from dfqonnx.graph.passes.opset_upgrade import OPSET
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import ChannelPadding, OpsetVersion
from tests.export.ortrun import run
from tests.export.qnets import Net, chain, export_net, residual

NAN, INFINITY = float("nan"), float("inf")


# ---- activations --------------------------------------------------------------------------------


def _value() -> tuple[GraphEditor, ir.Value]:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([4]))
    graph = ir.Graph([x], [x], nodes=[], opset_imports={"": OPSET})
    return GraphEditor(graph, ONNXRUNTIME_CPU), x


@pytest.mark.parametrize(("scale", "zero", "low", "high"), [
    (0.0, 0, 0, 255), (-1.0, 0, 0, 255), (NAN, 0, 0, 255),
    (1.0, 256, 0, 255), (1.0, -1, 0, 255), (1.0, 16, 0, 15), (1.0, 3, 4, 15),
    (1.0, 0, -1, 255), (1.0, 0, 0, 256),
])  # fmt: skip
def test_a_quantizer_that_does_not_fit_is_refused(
    scale: float, zero: int, low: int, high: int
) -> None:
    editor, x = _value()
    with pytest.raises(InternalError, match="does not fit codes from 0 to 255"):
        quantize(editor, x, ActivationParameters(scale, zero, low, high))


@pytest.mark.parametrize(("zero", "low", "high", "clips"), [
    (0, 0, 255, 0), (255, 0, 255, 0), (128, 0, 255, 0), (0, 0, 254, 1), (1, 1, 255, 1),
    (0, 0, 15, 1), (15, 0, 15, 1),
])  # fmt: skip
def test_codes_are_bounded_where_they_do_not_fill_their_container(
    zero: int, low: int, high: int, clips: int
) -> None:
    editor, x = _value()
    nodes = quantize(editor, x, ActivationParameters(0.5, zero, low, high))
    assert [n.op_type for n in nodes] == ["QuantizeLinear", *["Clip"] * clips, "DequantizeLinear"]
    again = quantize(editor, x, ActivationParameters(0.5, zero, low, high), bounded=True)
    assert [n.op_type for n in again][1] == "Clip", "what keeps two quantizers in a row apart"


@pytest.mark.parametrize("integer_clip", [True, False])
@pytest.mark.parametrize(("zero", "low", "high"), [
    (0, 0, 255), (0, 0, 15), (8, 0, 15), (15, 0, 15), (128, 0, 255), (3, 0, 9), (130, 120, 140),
])  # fmt: skip
def test_codes_are_those_of_the_formula_wherever_the_clip_stands(
    integer_clip: bool, zero: int, low: int, high: int
) -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([401]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": OPSET}, name="codes")
    editor = GraphEditor(graph, replace(ONNXRUNTIME_CPU, integer_clip=integer_clip))
    nodes = quantize(editor, x, ActivationParameters(0.25, zero, low, high))
    graph.extend(nodes)
    made = nodes[-1].outputs[0]
    made.type, made.shape = x.type, x.shape
    graph.outputs.append(made)
    values = np.linspace(-50, 50, 401, dtype=np.float32)
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    found = run(proto.SerializeToString(), values, optimize=False)
    codes = np.clip(np.rint(values / np.float32(0.25)) + zero, low, high)
    np.testing.assert_array_equal(found, (codes - zero) * np.float32(0.25))


# ---- weights ------------------------------------------------------------------------------------


def _check(
    codes: np.ndarray, scale: list[float], *, axis: int = 0, shape: tuple[int, ...] = (3, 2)
) -> None:
    x, w = (ir.Value(name=n, shape=ir.Shape(s)) for n, s in (("x", (1, 2)), ("w", shape)))
    quantizer = WeightQuantizer(
        node="n", op="Gemm", weight="w", bias=None, grid=IntegerRange(4, -8, 7, 0), axis=axis,
        input="x",
    )  # fmt: skip
    params = WeightParameters(codes, np.float32(scale), None)
    check_weight(quantizer, params, ir.node("Gemm", [x, w]))


def _codes(*, low: int = -8, high: int = 7, shape: tuple[int, ...] = (3, 2)) -> np.ndarray:
    codes = np.zeros(shape, np.int8)
    codes.flat[0], codes.flat[-1] = low, high
    return codes


def test_weights_that_fit_are_taken_on_either_axis() -> None:
    _check(_codes(), [1, 2, 3])
    _check(_codes(), [1, 2], axis=1)


@pytest.mark.parametrize(("codes", "scale", "axis"), [
    (_codes(low=-9), [1, 2, 3], 0), (_codes(high=8), [1, 2, 3], 0),
    (_codes(), [1, 0, 3], 0), (_codes(), [1, -1, 3], 0), (_codes(), [1, NAN, 3], 0),
    (_codes(), [0, 0, 0], 0), (_codes(), [1, 2, 3], 1), (_codes(), [1, 2], 0),
    (_codes(shape=(2, 3)), [1, 2], 0), (_codes(shape=(6,)), [1] * 6, 0),
    (_codes(shape=(3, 2, 1)), [1, 2, 3], 0),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(
    codes: np.ndarray, scale: list[float], axis: int
) -> None:
    with pytest.raises(InternalError, match="please report it"):
        _check(codes, scale, axis=axis)


def test_what_is_missing_of_a_plan_is_named(tmp_path: Path) -> None:
    found = export_net(residual().proto(), tmp_path)
    params, plan = found.params, found.plan
    for name in params.activations:  # every one of them is needed
        fewer = {k: v for k, v in params.activations.items() if k != name}
        with pytest.raises(InternalError, match=f"without parameters or node: {name}"):
            export(found.model, plan, QuantizationParameters(fewer, params.weights))
    shared = replace(plan, activations=tuple(q for q in plan.activations if q.name != "pool_out"))
    fewer = {k: v for k, v in params.activations.items() if k != "pool_out"}
    with pytest.raises(InternalError, match="without parameters or node: pool_out"):
        export(found.model, shared, QuantizationParameters(fewer, params.weights))
    strange = replace(plan, weights=(*plan.weights, replace(plan.weights[0], node="nobody")))
    more = {**params.weights, "nobody": params.weights["stem"]}
    with pytest.raises(InternalError, match="without parameters or node: nobody"):
        export(found.model, strange, QuantizationParameters(params.activations, more))
    short = replace(params.weights["c1"], bias=np.zeros(1, np.int32))
    weights = {**params.weights, "c1": short}
    with pytest.raises(InternalError, match="bias codes"):
        export(found.model, plan, QuantizationParameters(params.activations, weights))


@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(3, 5)], ids=str)
def test_every_weight_and_bias_of_a_file_is_that_of_the_float_model(
    bits: BitWidths, tmp_path: Path
) -> None:
    """Dequantized as ONNX says: within half a step, channel by channel, of the float numbers."""
    found = export_net(residual().proto(), tmp_path, bits=bits)
    source = {t.name: numpy_helper.to_array(t) for t in onnx.load(found.source).graph.initializer}
    arrays = {t.name: numpy_helper.to_array(t) for t in found.proto.graph.initializer}
    makers = {o: n for n in found.proto.graph.node for o in n.output}
    scale_of = {}  # of an activation, by what DequantizeLinear makes of it
    for node in found.proto.graph.node:
        if node.op_type == "DequantizeLinear" and arrays[node.input[1]].ndim == 0:
            scale_of[node.output[0]] = float(arrays[node.input[1]])
    layers = [n for n in found.proto.graph.node if n.op_type in {"Conv", "Gemm"}]
    for node in [n for n in layers if n.name in {w.node for w in found.plan.weights}]:
        steps = []
        for value, name in (
            (node.input[1], f"{node.name}.weight"),
            (node.input[2], f"{node.name}.bias"),
        ):
            dequantize = makers[value]
            codes = makers.get(dequantize.input[0])
            codes = arrays[codes.input[0] if codes is not None else dequantize.input[0]]
            steps.append(arrays[dequantize.input[1]].astype(np.float64))
            axis = next((a.i for a in dequantize.attribute if a.name == "axis"), 1)
            shape = [1] * codes.ndim
            shape[axis] = -1
            real = codes.astype(np.float64) * steps[-1].reshape(shape)
            wanted = source[name]
            real = real[:, : wanted.shape[1]] if real.ndim == 4 else real
            limit = (steps[-1] / 2).reshape(shape) * (
                1 + 1e-5
            )  # a float32 division before rounding
            assert (np.abs(real - wanted) <= limit).all(), name
        product = np.float32(scale_of[node.input[0]]) * steps[0].astype(np.float32)
        np.testing.assert_array_equal(steps[1].astype(np.float32), product)


# ---- the first Conv -----------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "weight", "group", "missing"), [
    ("Conv", (16, 3, 3, 3), 1, 1), ("Conv", (16, 1, 3, 3), 1, 3), ("Conv", (16, 6, 1, 1), 1, 2),
    ("Conv", (16, 4, 3, 3), 1, 0), ("Conv", (15, 3, 3, 3), 1, 0), ("Conv", (18, 3, 3, 3), 3, 0),
    ("Conv", (16, 3, 3), 1, 0), ("Conv", (16, 3, 3, 3, 3), 1, 0), ("Gemm", (16, 3), 1, 0),
])  # fmt: skip
def test_only_a_plain_conv_of_enough_outputs_is_fed_more_channels(
    op: str, weight: tuple[int, ...], group: int, missing: int
) -> None:
    node = ir.node(op, [ir.Value(name="x"), ir.Value(name="w")], {"group": group})
    assert missing_channels(node, weight, ChannelPadding(multiple=4, min_outputs=16)) == missing
    assert missing_channels(node, weight, None) == 0


def test_only_codes_of_the_image_that_one_conv_reads_are_fed_more_channels(tmp_path: Path) -> None:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (18, 3, 3, 3), pads=[1] * 4), name="r0")
    b = net.add("Relu", net.conv(a, "c1", (18, 18, 3, 3), pads=[1] * 4), name="r1")
    net.head(b, 18)
    found = export_net(net.proto(), tmp_path)
    dims = {t.name: list(t.dims) for t in found.proto.graph.initializer}
    assert (dims["stem.weight"], dims["c1.weight"]) == ([18, 4, 3, 3], [18, 18, 3, 3])
    two = Net()
    left, right = (two.conv("image", name, (16, 3, 1, 1)) for name in ("left", "right"))
    two.head(two.add("Relu", two.add("Add", left, right, name="sum"), name="r0"), 16)
    found = export_net(two.proto(), tmp_path)
    dims = {t.name: list(t.dims) for t in found.proto.graph.initializer}
    assert dims["left.weight"] == dims["right.weight"] == [16, 3, 1, 1]
    assert run(found.path, found.x, optimize=False).shape == (8, 5)


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.uint8, 128), (np.uint8, 8)])
def test_added_weights_are_real_zeros(kind: type, zero: int) -> None:
    codes = np.arange(2 * 3 * 4, dtype=kind).reshape(2, 3, 2, 2)
    wide = pad_weight(codes, 2, zero)
    assert (wide.shape, wide.dtype) == ((2, 5, 2, 2), codes.dtype)
    np.testing.assert_array_equal(wide[:, :3], codes)
    assert not (wide[:, 3:].astype(int) - zero).any()


# ---- metadata -----------------------------------------------------------------------------------


def _described(quant: QuantizationConfig, size: tuple[int, ...] | None = None) -> dict[str, str]:
    return describe(
        version="2.0", quant=quant, target="onnxruntime-cpu", seed=0, recipe="r", teacher="t",
        inputs=None, image_size=size,
    )  # fmt: skip


@pytest.mark.parametrize("quant", [
    QuantizationConfig(BitWidths(4, 4)), QuantizationConfig(BitWidths(8, 3), first_last_bits=8),
    QuantizationConfig(BitWidths(2, 8), residual_bits=6),
    QuantizationConfig(BitWidths(2, 8), first_last_bits=2, residual_bits=4),
], ids=str)  # fmt: skip
def test_widths_are_read_back_as_they_were_written(quant: QuantizationConfig) -> None:
    metadata = _described(quant)
    assert recorded_quantization(metadata) == quant
    assert "dfqonnx.input_shape" not in metadata
    assert recorded_quantization({**metadata, "dfqonnx.first_last_bits": ""}) == replace(
        quant, first_last_bits=None
    )
    del metadata["dfqonnx.bits"]
    assert recorded_quantization(metadata) is None


@pytest.mark.parametrize(("shape", "size"), [
    ((3, 32, 48), (32, 48)), ((32, 48, 3), (32, 48)), ((1, 8, 8), (8, 8)), ((8, 8, 1), (8, 8)),
    ((100_000,), (100_000,)), ((4, 5), (4, 5)), ((), None), (None, None),
])  # fmt: skip
def test_a_size_is_read_back_without_its_channels(
    shape: tuple[int, ...] | None, size: tuple[int, ...] | None
) -> None:
    metadata = _described(QuantizationConfig(BitWidths(4, 4)), shape)
    assert recorded_image_size(metadata) == size


@pytest.mark.parametrize("text", ["3x0x8", "3x100001x8", "3x-1x8", "axb", "1e3", "3x8x8.0"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"dfqonnx\.input_shape"):
        recorded_image_size({"dfqonnx.input_shape": text})


def test_metadata_of_an_earlier_run_go_and_the_users_own_stay(tmp_path: Path) -> None:
    """Our own file, or one with keys like ours, is quantized again."""
    proto = chain().proto()
    old = {"author": "somebody", "dfqonnx.bits": "w2a2", "dfqonnx.seed": "9", "dfqonnx.extra": "?",
           "dfqonnx": "not ours", "preprocess": "theirs"}  # fmt: skip
    onnx.helper.set_model_props(proto, old)
    ours = _described(QuantizationConfig(BitWidths(4, 4)))
    found = export_net(proto, tmp_path, metadata={**ours, "author": "changed by the run"})
    props = {p.key: p.value for p in found.proto.metadata_props}
    assert props == {
        "dfqonnx": "not ours", "preprocess": "theirs", **ours, "author": "changed by the run",
    }  # fmt: skip
    assert props["dfqonnx.bits"] == "w4a4"
    bare = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 21}), ir_version=10)
    bare.metadata_props["left"] = "over"
    attach(bare, {"dfqonnx.bits": "w2a2", "a": "b"}, {})
    assert dict(bare.metadata_props) == {"a": "b"}


# ---- opset --------------------------------------------------------------------------------------


def _model(node: ir.Node, *, opset: int = OPSET, ir_version: int = 10) -> ir.Model:
    graph = ir.Graph([], [], nodes=[node], opset_imports={"": opset})
    return ir.Model(graph, ir_version=ir_version)


def _x(count: int = 1) -> list[ir.Value | None]:
    return [ir.Value(name=f"x{k}") for k in range(count)]


@pytest.mark.parametrize(("node", "opset"), [
    (ir.node("Relu", _x()), 13),
    (ir.node("Clip", [*_x(), None, None]), 13),
    (ir.node("AveragePool", _x(), {"kernel_shape": [2, 2]}), 13),
    (ir.node("AveragePool", _x(), {"kernel_shape": [2, 2], "dilations": [1, 1]}), 21),  # since 19
    (ir.node("Pad", [*_x(2), None]), 13),
    (ir.node("Pad", [*_x(2), None, None]), 13),
    (ir.node("Pad", [*_x(2), None, *_x()]), 21),  # axes came with 18
    (ir.node("ReduceMax", _x(2)), 21),  # axes were an attribute
    (ir.node("Resize", [*_x(), None, *_x()]), 21),
    (ir.node("Gelu", _x()), 21),
    (ir.node("DequantizeLinear", _x(3), {"axis": 0}), 13),
    (ir.node("DequantizeLinear", _x(3), {"axis": 0, "block_size": 2}), 21),
])  # fmt: skip
def test_a_graph_goes_down_to_the_oldest_opset_that_means_the_same(
    node: ir.Node, opset: int
) -> None:
    model = _model(node)
    version = choose_opset(model, ONNXRUNTIME_CPU)
    assert version == {13: OpsetVersion(13, 8), 21: OpsetVersion(21, 10)}[opset]
    assert choose_opset(model, ONNXRUNTIME_CPU, least=21).opset == 21


def test_an_operator_of_another_domain_stays_where_it_was() -> None:
    node = ir.node("Relu", _x(), domain="com.example")
    assert choose_opset(_model(node), ONNXRUNTIME_CPU).opset == 21


@pytest.mark.parametrize(("own", "ir_version", "wanted"), [(22, 9, 10), (23, 12, 12)])
def test_a_newer_model_keeps_its_opset_where_the_target_says_so(
    own: int, ir_version: int, wanted: int
) -> None:
    model = _model(ir.node("Relu", _x()), opset=own, ir_version=ir_version)
    assert choose_opset(model, ONNXRUNTIME_CPU, least=21) == OpsetVersion(own, wanted)
    with pytest.raises(UnsupportedModel, match=f"opset {own} is too new"):
        choose_opset(model, replace(ONNXRUNTIME_CPU, newer_opsets=False))
