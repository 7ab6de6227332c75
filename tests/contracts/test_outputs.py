"""Outputs that no layer makes, or that a layer makes for others too."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dfqonnx.convert.importer import program_from_ir, truncate_at_unsupported
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.workflows.inspect import inspect
from tests.contracts.nets import Builder
from tests.contracts.pipeline import Quantized, check_contract, quantize
from tests.export.ortrun import executed


def _run(b: Builder, outputs: list[str], folder: Path, *, opset: int = 17) -> Quantized:
    proto = b.model(outputs, opset=opset)
    found = quantize(proto, folder)
    check_contract(proto, found.proto)
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1
    return found


@pytest.mark.parametrize("how", ["Identity", "Transpose", "twice", "Resize", "chain"])
def test_an_output_made_of_the_input_alone_is_exact(how: str, tmp_path: Path) -> None:
    b = Builder()
    logits = b.head(b.conv_relu("x", 3, 8), 8)
    match how:
        case "Identity":
            same = b.op("Identity", "x")
        case "Transpose":
            same = b.op("Transpose", "x", perm=[0, 2, 3, 1])
        case "twice":
            same = b.op("Add", "x", "x")
        case "Resize":
            same = b.op("Resize", "x", "", b.constant(np.float32([1, 1, 2, 2])), mode="nearest")
        case _:
            same = b.op("Mul", b.op("Sigmoid", "x"), b.op("Slice", "x", *map(
                b.constant, ([0], [16], [2]))))  # fmt: skip
    found = _run(b, [logits, same], tmp_path)
    assert found.sqnr_db[same] == float("inf")
    assert found.sqnr_db[logits] > 25  # measured 41
    assert executed(tmp_path / "net.q.onnx", tmp_path)["QLinearConv"] == 1


def test_a_skip_from_the_input_to_the_output_adds_the_input_itself(tmp_path: Path) -> None:
    """Super-resolution: the image, and what the network adds to it."""
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 3)
    small = b.op("Mul", y, b.constant(np.float32(0.01)))
    out = b.op("Add", "x", small)
    found = _run(b, [out], tmp_path)
    assert found.sqnr_db[out] > 60  # measured 71; the input's own 8 bits would leave 42


def test_the_input_is_quantized_where_a_layer_reads_the_sum_with_it(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("Add", "x", b.conv(b.conv_relu("x", 3, 8), 8, 3))
    found = _run(b, [b.conv(y, 3, 4), b.op("Identity", "x")], tmp_path)
    assert executed(tmp_path / "net.q.onnx", tmp_path)["QLinearAdd"] == 1
    assert min(found.sqnr_db.values()) > 25  # measured 34 and more


def test_a_constant_and_a_layer_that_others_read_are_outputs(tmp_path: Path) -> None:
    b = Builder()
    first = b.conv("x", 3, 8)
    deep = b.op("Relu", b.conv(b.op("Relu", first), 8, 8))
    anchors = b.constant(b.draw.normal(size=(5, 4)).astype(np.float32), "anchors")
    proto = b.model([b.head(deep, 8), first, deep])
    proto.graph.output.append(helper.make_tensor_value_info(anchors, TensorProto.FLOAT, (5, 4)))
    proto.graph.initializer.extend(t for t in b.tensors if t.name == "anchors")
    del proto.graph.initializer[-1]
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    assert found.sqnr_db["anchors"] == float("inf")
    assert min(found.sqnr_db.values()) > 25  # measured 34 and more


def test_inspect_names_every_output_and_leaves_open_sizes_open(tmp_path: Path) -> None:
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    proto = b.model([b.conv(y, 8, 4), y], ["batch", 3, "height", "width"])
    proto.graph.input.append(helper.make_tensor_value_info("mode", TensorProto.INT64, []))
    onnx.save(proto, tmp_path / "net.onnx")
    found = inspect(tmp_path / "net.onnx", QuantizationConfig(BitWidths.parse("8")))
    text = str(found)
    assert "x (batch x 3 x height x width; images of 3 x 224 x 224 are made)" in text
    assert "mode (no node reads it)" in text
    assert [line.split(" (")[0] for line in found.outputs] == ["v2", "v1"]
    assert all("224" not in line for line in found.outputs)


def test_a_size_below_zero_is_an_open_one(tmp_path: Path) -> None:
    b = Builder()
    proto = b.model(b.conv(b.conv_relu("x", 3, 8), 8, 4))
    for port in (*proto.graph.input, *proto.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(proto, tmp_path / "net.onnx")
    found = inspect(tmp_path / "net.onnx", QuantizationConfig(BitWidths.parse("8")))
    assert found.input == "x (? x 3 x 16 x 16)"
    assert found.outputs == ("v2 (? x 4 x 16 x 16)",)


@pytest.mark.parametrize("bare", ["shape", "type"])
def test_an_output_that_declares_nothing_is_what_the_graph_says(bare: str, tmp_path: Path) -> None:
    b = Builder()
    proto = b.model(b.head(b.conv_relu("x", 3, 8), 8))
    kind = proto.graph.output[0].type
    if bare == "shape":
        kind.tensor_type.ClearField("shape")
    else:
        proto.graph.output[0].ClearField("type")
    found = quantize(proto, tmp_path)
    assert [d.dim_value for d in found.proto.graph.output[0].type.tensor_type.shape.dim] == [0, 5]
    assert min(found.sqnr_db.values()) > 25  # measured 45


def test_names_of_classes_are_handed_on(tmp_path: Path) -> None:
    """Text is chosen by a maximum, and computed with by nobody."""
    b = Builder()
    logits = b.head(b.conv_relu("x", 3, 8), 8)
    proto = b.model(logits)
    names = helper.make_tensor("names", TensorProto.STRING, [5], [b"a", b"b", b"c", b"d", b"e"])
    proto.graph.initializer.append(names)
    proto.graph.node.append(helper.make_node("ArgMax", [logits], ["i"], axis=1, keepdims=0))
    proto.graph.node.append(helper.make_node("Gather", ["names", "i"], ["name"]))
    proto.graph.output.append(helper.make_tensor_value_info("name", TensorProto.STRING, ["N"]))
    found = plan_of(proto, tmp_path)
    assert [n.op for n in found.floats] == ["ArgMax"]


def test_two_thousand_outputs_are_read_in_time(tmp_path: Path) -> None:
    b = Builder()
    proto = b.model(b.head(b.conv_relu("x", 3, 8), 8))
    last = proto.graph.output[0]
    for index in range(2000):
        proto.graph.node.append(helper.make_node("Identity", [last.name], [f"o{index}"]))
        proto.graph.output.append(
            helper.make_tensor_value_info(f"o{index}", TensorProto.FLOAT, ["N", 5])
        )
    onnx.save(proto, tmp_path / "net.onnx")
    model = normalize(load(tmp_path / "net.onnx"))
    begin = time.process_time()
    program = program_from_ir(model.ir)
    assert len(program.outputs) == 2001
    assert time.process_time() - begin < 5  # 0.3 s; 30 where every output was walked from anew


def plan_of(proto: onnx.ModelProto, folder: Path) -> QuantizationPlan:
    onnx.save(proto, folder / "net.onnx")
    model = truncate_at_unsupported(normalize(load(folder / "net.onnx")))
    quant = QuantizationConfig(BitWidths.parse("8"))
    return place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True)
