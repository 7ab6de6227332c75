"""Inputs beside the image, and images without a batch axis: carried, or refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfqonnx.config.input_values import INPUT_KEY, format_input, read_inputs, recorded_inputs
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.errors import UnsupportedModel, UsageError
from dfqonnx.placement.inspection import build_inspection
from tests.contracts.nets import Builder
from tests.contracts.pipeline import Quantized, check_contract, quantize
from tests.contracts.sibling_files import CASES

Port = onnx.ValueInfoProto


def _port(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Port:
    return helper.make_tensor_value_info(name, kind, shape)


def _run(proto: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    found: NDArray[Any] = ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds)[
        0
    ]
    return found


def _check(found: Quantized, proto: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> float:
    """Return how near the exported file is to the user's, run with the user's own inputs."""
    check_contract(proto, found.proto)
    first, second = (_run(p, feeds).astype(np.float64) for p in (proto, found.proto))
    assert first.shape == second.shape
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1
    return 10 * float(np.log10(np.square(first).sum() / np.square(first - second).sum()))


def _noise(*shape: int, seed: int = 9) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64])
def test_an_input_that_no_node_reads_stays_an_input(kind: int, tmp_path: Path) -> None:
    b = Builder()
    proto = b.model(b.head(b.conv_relu("x", 3, 8), 8), more=[_port("training", [], kind)])
    found = quantize(proto, tmp_path)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    near = _check(found, proto, {"x": _noise(2, 3, 16, 16), "training": np.zeros((), dtype)})
    assert near > 25  # measured 44


def test_the_image_may_stand_behind_it(tmp_path: Path) -> None:
    b = Builder()
    proto = b.model(b.head(b.conv_relu("x", 3, 8), 8))
    proto.graph.input.insert(0, _port("unused", ["N", 5]))
    found = quantize(proto, tmp_path)
    assert found.model.input == "x"
    feeds = {"x": _noise(2, 3, 16, 16), "unused": _noise(2, 5)}
    assert _check(found, proto, feeds) > 25  # measured 44


@pytest.mark.parametrize(("shape", "given"), [
    ([], 0.5), ([1], [0.5]), (["N", 8, 1, 1], 0.5), ([8, 1, 1], [0.5] * 8),
])  # fmt: skip
def test_a_factor_beside_the_image_is_still_read(
    shape: list[int | str], given: Any, tmp_path: Path
) -> None:
    b = Builder()
    y = b.op("Mul", b.conv_relu("x", 3, 8), "alpha")
    proto = b.model(b.head(b.conv_relu(y, 8, 8), 8), more=[_port("alpha", shape)])
    found = quantize(proto, tmp_path, given={"alpha": given})
    sizes = [2 if size == "N" else int(size) for size in shape]
    x = _noise(2, 3, 16, 16)
    for value in (0.5, 0.25):  # the one given, and another one
        fed = np.full(sizes, value, np.float32)
        near = _check(found, proto, {"x": x, "alpha": fed})
        assert near > 25  # measured 48 and 53
    assert "alpha" in str([n.reason for n in found.plan.floats])


def test_a_state_with_a_given_value_is_carried(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(4, 2, 3), pads=[1, 1]))
    joined = b.op("Concat", y, "state", axis=1)
    z = b.op("Relu", b.op("Conv", joined, b.noise(8, 8, 3), pads=[1, 1]))
    out = b.op("Conv", z, b.noise(2, 8, 1))
    proto = b.model([out, y], [1, 2, 32], more=[_port("state", [1, 4, 32])])
    state = np.abs(_noise(1, 4, 32, seed=3))
    found = quantize(proto, tmp_path, given={"state": state})
    assert found.plan.weights, "its Convs are quantized"
    assert _check(found, proto, {"x": _noise(1, 2, 32), "state": state}) > 25  # measured 34


def test_nodes_called_like_those_that_repeat_a_state_are_no_reason_to_refuse(
    tmp_path: Path,
) -> None:
    make, options = CASES["inputs/recurrent_state"]
    proto = make()
    for node, part in zip(proto.graph.node, ("shape", "count", "target", "rows"), strict=False):
        node.name = f"h/{part}"
    given = {name: float(value) for name, value in options["given"].items()}
    found = quantize(proto, tmp_path, images=2, given=given)
    names = [node.name for node in found.proto.graph.node if node.name]
    assert len(set(names)) == len(names)


def test_without_a_value_it_is_refused_as_what_it_is(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("Relu", b.op("Conv", b.op("Add", "x", "state"), b.noise(2, 2, 3), pads=[1, 1]))
    proto = b.model(y, [1, 2, 32], more=[_port("state", [1, 2, 32])])
    with pytest.raises(UnsupportedModel, match="'state' looks like a state") as caught:
        quantize(proto, tmp_path)
    assert "--input NAME=VALUE" in caught.value.message


def test_truth_values_decide_what_is_computed(tmp_path: Path) -> None:
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    dropped = b.op("Dropout", y, b.constant(np.float32(0.5)), "training")
    more = [_port("training", [], TensorProto.BOOL)]
    proto = b.model(b.head(b.conv_relu(dropped, 8, 8), 8), more=more)
    found = quantize(proto, tmp_path, given={"training": False})
    assert found.plan.floats == ()
    feeds = {"x": _noise(2, 3, 16, 16), "training": np.zeros((), bool)}
    assert _check(found, proto, feeds) > 25  # measured 43


@pytest.mark.parametrize(("given", "says"), [
    ({"beta": 1}, "no such input; it has 'x', 'alpha'"),
    ({"alpha": [1.0, 2.0, 3.0]}, "declares FLOAT 8x1x1, and 3 of float64 was given"),
    ({"alpha": "text"}, "cannot read text"), ({"alpha": float("nan")}, "have to be finite"),
])  # fmt: skip
def test_a_value_that_does_not_fit_is_a_mistake_of_the_user(
    given: dict[str, Any], says: str, tmp_path: Path
) -> None:
    b = Builder()
    y = b.op("Mul", b.conv_relu("x", 3, 8), "alpha")
    proto = b.model(b.head(y, 8), more=[_port("alpha", [8, 1, 1])])
    with pytest.raises(UsageError, match=says):
        quantize(proto, tmp_path, given=given)


def test_values_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", _noise(3, 40))
    texts = ["a=0.1", "b=[320,320]", "c=true", f"d={tmp_path / 's.npy'}"]
    found = read_inputs(texts)
    again = recorded_inputs({INPUT_KEY + name: format_input(v) for name, v in found.items()})
    assert found.keys() == again.keys() == set("abcd")
    for name, value in found.items():
        assert np.array_equal(value, again[name])
        assert value.dtype == again[name].dtype
    for text in ("a", "a=", "=1", "a=[1,", "a=none.npy", "a={}", "a=1e400"):
        with pytest.raises(UsageError, match="inputs"):
            read_inputs([text])


def _picture(b: Builder, how: str) -> tuple[str, list[int], int]:
    """Return the batch of one that a picture becomes, the picture's shape and type."""
    real = {"to": TensorProto.FLOAT}
    scale = b.constant(np.float32(255))
    mean = b.constant(np.float32([0.4, 0.5, 0.6]))
    match how:
        case "HWC":
            y = b.op("Transpose", b.op("Cast", "x", **real), perm=[2, 0, 1])
            return _add_batch(b, b.op("Div", y, scale)), [16, 16, 3], TensorProto.UINT8
        case "HWC, mean":
            y = b.op("Sub", b.op("Div", b.op("Cast", "x", **real), scale), mean)
            return _add_batch(b, b.op("Transpose", y, perm=[2, 0, 1])), [16, 16, 3], 2
        case "BGR":
            y = b.op("Gather", b.op("Cast", "x", **real), b.constant(np.array([2, 1, 0])), axis=0)
            return _add_batch(b, b.op("Div", y, scale)), [3, 16, 16], TensorProto.UINT8
        case "crop":
            cut = [b.constant(np.array(part)) for part in ([1], [17], [1])]
            return _add_batch(b, b.op("Slice", "x", *cut)), [3, 18, 16], TensorProto.FLOAT
        case "gray":
            y = b.op("Unsqueeze", "x", b.constant(np.array([0, 1])))
            return y, [16, 16], TensorProto.FLOAT
        case "gray, step by step":
            return _add_batch(b, _add_batch(b, "x")), [16, 16], TensorProto.FLOAT
        case "Reshape":
            y = b.op("Reshape", "x", b.constant(np.array([1, 3, 16, 16])))
            return y, [3, 16, 16], TensorProto.FLOAT
        case _:
            return _add_batch(b, "x"), [3, 16, 16], TensorProto.FLOAT


def _add_batch(b: Builder, y: str) -> str:
    return b.op("Unsqueeze", y, b.constant(np.array([0])))


@pytest.mark.parametrize(("how", "squeezed"), [
    *[(how, False) for how in ("HWC", "BGR", "crop", "gray", "gray, step by step", "Reshape")],
    ("CHW", True), ("HWC, mean", True),
])  # fmt: skip
def test_a_picture_without_a_batch_axis_is_quantized_whole(
    how: str, squeezed: bool, tmp_path: Path
) -> None:
    b = Builder()
    y, shape, kind = _picture(b, how)
    out = b.head(b.conv_relu(y, 1 if "gray" in how else 3, 8), 8)
    if squeezed:
        out = b.op("Squeeze", out, b.constant(np.array([0])))
    proto = b.model(out, shape, kind=kind)
    found = quantize(proto, tmp_path)
    assert len(found.plan.weights) == 2
    draw = np.random.default_rng(4)
    x = draw.integers(0, 256, shape).astype(np.uint8) if kind == 2 else _noise(*shape)
    assert _check(found, proto, {"x": x}) > 25  # measured 37 and more


def test_a_batch_of_features_is_no_picture(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("Relu", b.op("Gemm", b.op("Div", "x", b.constant(np.float32(2))), b.noise(16, 8)))
    found = quantize(b.model(b.op("Gemm", y, b.noise(8, 4)), [4, 16]), tmp_path)
    assert found.model.contract.batch == 4


def test_a_node_that_needs_the_axis_away_is_named(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("Pad", "x", b.constant(np.array([0, 1, 1, 0, 1, 1])))
    proto = b.model(b.head(b.conv_relu(_add_batch(b, y), 3, 8), 8), [3, 8, 8])
    with pytest.raises(UnsupportedModel, match=r"Pad_0 \(Pad\): it works on an image"):
        quantize(proto, tmp_path)


def test_a_weight_that_the_image_makes_ends_what_is_quantized(tmp_path: Path) -> None:
    b = Builder()
    y = b.conv_relu("x", 3, 4)
    flat = b.op("Flatten", b.op("GlobalAveragePool", y))
    weight = b.op("Gemm", flat, b.noise(4, 16), b.noise(16))
    weight = b.op("Reshape", weight, b.constant(np.array([4, 4, 1, 1])))
    z = b.op("Conv", y, weight)
    proto = b.model(b.head(b.conv_relu(z, 4, 8), 8), [1, 3, 16, 16])
    found = quantize(proto, tmp_path)
    reasons = {n.node: n.reason for n in found.plan.floats}
    assert "its weight is computed from every image anew" in reasons["Conv_6"]
    assert len(found.plan.weights) == 2
    assert _check(found, proto, {"x": _noise(1, 3, 16, 16)}) > 25  # measured 63


def test_inspect_says_that_a_second_branch_stays_in_float(tmp_path: Path) -> None:
    b = Builder()
    first, second = (b.conv_relu(b.conv_relu(name, 3, 8), 8, 8) for name in ("x", "x2"))
    proto = b.model(
        b.head(b.op("Concat", first, second, axis=1), 16), more=[_port("x2", ["N", 3, 16, 16])]
    )
    found = quantize(proto, tmp_path, images=2, given={"x2": _noise(1, 3, 16, 16)})
    told = build_inspection(
        found.model, found.plan, QuantizationConfig(BitWidths.parse("8"))
    ).inputs
    behind = [node for node in found.plan.floats if "'x2'" in node.reason]
    assert len(behind) >= 5
    assert told == (
        f"x2 (a value is given, and it stays an input; {len(behind)} nodes behind it stay in float,"
        " since one value says no range)",
    )


@pytest.mark.parametrize("ports", ["input", "output"])
def test_a_port_without_a_name_is_refused_before_anything_is_done(
    tmp_path: Path, ports: str
) -> None:
    b = Builder()
    proto = b.model(b.head(b.conv_relu("x", 3, 8), 8))
    getattr(proto.graph, ports).append(_port("", ["N", 3, 16, 16]))
    with pytest.raises(UsageError, match="an input or output of the graph has no name"):
        quantize(proto, tmp_path)
