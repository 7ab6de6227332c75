"""What is refused: exit code 3, every offending node with name, operator, reason and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import Run
from tests.cli.networks import SMALL, WEIGHTS, model_from


def small() -> onnx.ModelProto:
    return model_from(SMALL, **WEIGHTS)


def behind_the_conv(op: str, *more: str, outputs: int = 1, **attributes: object) -> onnx.ModelProto:
    """The small network with its Relu replaced."""
    proto = small()
    (relu,) = [n for n in proto.graph.node if n.op_type == "Relu"]
    relu.op_type, relu.name, relu.domain = op, "culprit", str(attributes.pop("domain", ""))
    relu.input.extend(more)
    relu.output.extend(f"more{i}" for i in range(1, outputs))
    relu.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    if relu.domain:
        proto.opset_import.append(helper.make_opsetid(relu.domain, 1))
    for name in more:
        shape = () if name in {"s", "cond", "trip"} else (8,)
        kind = {"cond": np.bool_, "trip": np.int64}.get(name, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, kind), name))
    return proto


def branch(op: str) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, ["a"], ["t"])], "branch", [], [out])


def choice() -> onnx.ModelProto:
    proto = behind_the_conv("If", then_branch=branch("Relu"), else_branch=branch("Neg"))
    (node,) = [n for n in proto.graph.node if n.op_type == "If"]
    node.input[:] = ["cond"]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "cond"))
    return proto


def without_weights() -> onnx.ModelProto:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,8,8] x) => (float[N,8,8] y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t) }"""
    return model_from(text)


def two_inputs() -> onnx.ModelProto:
    proto = small()
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 1]))
    proto.graph.node[0].input[0] = "masked"
    proto.graph.node.insert(0, helper.make_node("Mul", ["x", "mask"], ["masked"], "masking"))
    return proto


def of_integers() -> onnx.ModelProto:
    proto = small()
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def without_shape() -> onnx.ModelProto:
    proto = small()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    return proto


def sequence_input() -> onnx.ModelProto:
    proto = small()
    kind = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    proto.graph.input[0].CopyFrom(kind)
    return proto


def not_finite() -> onnx.ModelProto:
    proto = small()
    tensor = proto.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


def wrong_bias() -> onnx.ModelProto:
    proto = small()
    tensor = next(t for t in proto.graph.initializer if t.name == "b")
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(7, np.float32), "b"))
    return proto


TRAINING = ("g", "h", "m", "v2")
CASES = {
    "control flow": (choice, ["culprit (If)", "control flow", "onnxsim"]),
    "a custom domain": (
        lambda: behind_the_conv("Magic", domain="com.example"),
        ["culprit (Magic)", "domain 'com.example' are not known", "standard ai.onnx"],
    ),
    "a file optimized by ONNX Runtime": (
        lambda: behind_the_conv("FusedConv", domain="com.microsoft"),
        ["culprit (FusedConv)", "take the file from before that"],
    ),
    "quantized already": (
        lambda: behind_the_conv("DynamicQuantizeLinear", outputs=3),
        ["culprit (DynamicQuantizeLinear)", "already quantized", "start from the float model"],
    ),
    "training mode": (
        lambda: behind_the_conv("BatchNormalization", *TRAINING, outputs=3, training_mode=1),
        ["culprit (BatchNormalization)", "training mode", "model.eval()"],
    ),
    "no weights": (without_weights, ["MatMul", "computed, not a constant"]),
    "two inputs": (
        two_inputs,
        ["one image input is expected", "'x' (FLOAT Nx3x8x8), 'mask' (FLOAT Nx1)", "--input"],
    ),
    "integer input": (of_integers, ["x (input)", "INT64", "float32"]),
    "no shape": (without_shape, ["x (input)", "0 dimensions", "batch x channels"]),
    "a sequence": (sequence_input, ["x (input)", "not a tensor"]),
    "NaN": (not_finite, ["Conv", "1 of the 216 values of 'w' are NaN", "diverged"]),
    "a bias that does not fit": (
        wrong_bias,
        ["Conv", "its bias has the shape [7], for 8 output channels", "export it again"],
    ),
}


@pytest.mark.parametrize("command", ["inspect", "run"])
@pytest.mark.parametrize("case", CASES)
def test_a_refused_model_names_node_operator_reason_and_advice(
    dfqonnx: Run, tmp_path: Path, case: str, command: str
) -> None:
    make, words = CASES[case]
    path = tmp_path / "net.onnx"
    path.write_bytes(make().SerializeToString())
    done = dfqonnx(command, "--model", path)
    assert done.code == 3, done.err
    assert [word for word in words if word not in done.err] == [], done.err
    assert {p.name for p in tmp_path.iterdir()} == {"net.onnx"}


def test_every_offending_node_is_in_the_json(dfqonnx: Run, tmp_path: Path) -> None:
    proto = behind_the_conv("Magic", domain="com.example")
    for index in range(12):
        proto.graph.node.append(helper.make_node("Neg", ["x"], [f"n{index}"], domain="com.example"))
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    done = dfqonnx("run", "--model", path, "--json")
    offenses = json.loads(done.err)["error"]["offenses"]
    assert done.code == 3
    assert len(offenses) == 13
    assert all(o["node"] and o["op"] and o["reason"] and o["advice"] for o in offenses)


def test_weights_kept_as_integers_are_read(dfqonnx: Run, tmp_path: Path) -> None:
    proto = small()
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    codes = np.round(numpy_helper.to_array(tensor) * 100).astype(np.int8)
    tensor.CopyFrom(numpy_helper.from_array(codes, "codes"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), "scale"))
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"]))
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    done = dfqonnx("inspect", "--model", path, "--layers")
    assert done.code == 0, done.err
    assert "quantized weights (2)" in done.out
