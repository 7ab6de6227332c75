"""Quantized files in the form of another target: equal outputs and the target's form, or a reason.

Outputs are compared here once more, in ONNX Runtime without optimizations, on inputs of their own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from dfqonnx.errors import UnsupportedModel, UsageError
from dfqonnx.export.retarget import retarget
from dfqonnx.export.writer import write
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.runtime.session import Session
from dfqonnx.targets.profile import TARGETS
from tests.lint.bad_files import BAD_FILES
from tests.targets.made import Made

Case = tuple[str, str, str, str]  # made for, net, bits, converted to
EXACT: list[Case] = [
    ("onnxruntime-cpu", "residual", "w4a4", "onnxruntime-cpu-legacy"),
    ("onnxruntime-cpu", "residual", "w4a4", "portable"),
    ("onnxruntime-cpu", "residual", "w4a8", "onnxruntime-qnn"),
    ("onnxruntime-cpu", "residual", "w8a8", "stm32"),
    ("onnxruntime-cpu", "projected", "w4a4", "portable"),
    ("onnxruntime-cpu-legacy", "residual", "w4a8", "onnxruntime-cpu"),
    ("onnxruntime-cpu-legacy", "projected", "w4a4", "size"),
    ("size", "residual", "w2a8", "onnxruntime-cpu"),
    ("size", "projected", "w2a4", "portable"),
    ("tensorrt", "residual", "w8a8", "onnxruntime-cpu"),
    ("tensorrt", "projected", "w8a8", "stm32"),
    ("vitisai", "residual", "w8a8", "tensorrt"),
    ("vitisai", "projected", "w8a8", "onnxruntime-qnn"),
    ("stm32", "projected", "w8a8", "portable"),
    ("openvino", "residual", "w4a8", "portable"),
    ("portable", "projected", "w4a4", "onnxruntime-cpu"),
    ("portable", "projected", "w8a8", "portable"),
    ("portable", "residual", "w4a4", "onnxruntime-cpu-legacy"),
    ("onnxruntime-qnn", "residual", "w4a8", "onnxruntime-cpu-legacy"),
]
REFUSED: list[tuple[str, str, str, str, str]] = [
    (
        "onnxruntime-cpu",
        "residual",
        "w4a4",
        "onnxruntime-qnn",
        "its codes have 4 bits, and a range",
    ),
    ("onnxruntime-cpu", "residual", "w8a8", "openvino", "adds before it rounds"),
    ("onnxruntime-cpu", "residual", "w8a8", "vitisai", "is no power of two"),
    ("onnxruntime-cpu", "residual", "w8a8", "tensorrt", "none of int8 with zero point 0"),
    ("onnxruntime-cpu", "projected", "w8a8", "stm32", "its codes are read by a Clip as well"),
    ("tensorrt", "residual", "w8a8", "vitisai", "is no power of two"),
]


@pytest.mark.parametrize(("source", "net", "bits", "target"), EXACT, ids=str)
def test_a_file_that_has_an_equal_form_is_written_in_it(
    source: str, net: str, bits: str, target: str, tmp_path: Path
) -> None:
    made, profile = Made(TARGETS[source], net, bits, tmp_path), TARGETS[target]
    found = retarget(made.path, profile)
    path = tmp_path / "converted.onnx"
    write(found.model, path)
    sessions = [Session(each, optimization="off") for each in (made.path, path)]
    for spread in (0.5, 1.0, 5.0):
        x = spread * np.random.default_rng(7).normal(size=made.x.shape).astype(np.float32)
        first, second = (session.run({session.inputs[0].name: x})[0] for session in sessions)
        assert np.array_equal(first, second)
    _hold_to_the_form(path, target)
    if TARGETS[target].on_onnxruntime_cpu and source not in {"openvino", "tensorrt"}:
        assert not audit_kernels(path).float_weighted


def _hold_to_the_form(path: Path, target: str) -> None:
    proto, profile = onnx.load(path), TARGETS[target]
    onnx.checker.check_model(proto, full_check=True)
    assert {e.key: e.value for e in proto.metadata_props}["dfqonnx.target"] == target
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    types = {t.name: t.data_type for t in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    assert proto.opset_import[0].version in {each.opset for each in profile.opsets}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            assert arrays[node.input[2]].dtype == profile.activations.dtype_for()
            assert profile.activations.zero_points or arrays[node.input[2]] == 0
        if node.op_type == "DequantizeLinear" and types.get(node.input[0]) == TensorProto.INT32:
            assert not profile.float_bias
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            allowed = {"QuantizeLinear", "Cast"}
            allowed |= {"Clip"} if profile.integer_clip else set()
            assert makers[node.input[0]].op_type in allowed | (
                {"Pad"} if profile.first_conv_padding is not None else set()
            )
    packed = {TensorProto.INT4, TensorProto.INT2} & set(types.values())
    assert bool(packed) <= bool(profile.packings)
    used = {name for node in proto.graph.node for name in node.input}
    assert arrays.keys() <= used


@pytest.mark.parametrize(("source", "net", "bits", "target", "reason"), REFUSED, ids=str)
def test_a_file_that_would_have_other_numbers_is_refused_with_the_reason(
    source: str, net: str, bits: str, target: str, reason: str, tmp_path: Path
) -> None:
    made = Made(TARGETS[source], net, bits, tmp_path)
    with pytest.raises(UnsupportedModel) as refused:
        retarget(made.path, TARGETS[target])
    assert reason in refused.value.message
    assert refused.value.offenses
    assert all("train for it" in offense.advice for offense in refused.value.offenses)


def test_what_is_exact_but_slower_there_is_said(tmp_path: Path) -> None:
    made = Made(TARGETS["openvino"], "residual", "w8a8", tmp_path)
    (note,) = retarget(made.path, TARGETS["onnxruntime-cpu"]).notes
    assert "c2, c4" in note
    assert "--target onnxruntime-cpu trains with it" in note


def test_packing_comes_back_where_the_target_has_it(tmp_path: Path) -> None:
    made = Made(TARGETS["onnxruntime-cpu"], "residual", "w4a8", tmp_path)
    legacy = tmp_path / "legacy.onnx"
    small = write(retarget(made.path, TARGETS["onnxruntime-cpu-legacy"]).model, legacy)
    back = retarget(legacy, TARGETS["onnxruntime-web"])
    types = [t.data_type for t in onnx.load(made.path).graph.initializer]
    written = tmp_path / "back.onnx"
    assert write(back.model, written) < small
    again = [t.data_type for t in onnx.load(written).graph.initializer]
    assert again.count(TensorProto.INT4) == types.count(TensorProto.INT4)


def test_a_float_file_is_no_file_to_convert(tmp_path: Path) -> None:
    made = Made(TARGETS["portable"], "residual", "w8a8", tmp_path)
    with pytest.raises(UsageError, match="it is not quantized; make a file"):
        retarget(tmp_path / "net.onnx", TARGETS["stm32"])
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(made.path.read_bytes()[:900])
    with pytest.raises(UsageError, match="is not a readable ONNX file"):
        retarget(broken, TARGETS["stm32"])


FOREIGN = ["pool_with_ceil_mode", "static_with_uint16_activations", "static_with_int4_weights",
           "int8_weights_with_a_uint8_zero_point", "uint4_activations"]  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_tools_are_converted_exactly_or_refused_in_words(
    name: str, tmp_path: Path
) -> None:
    source, refusals = BAD_FILES[name].build(tmp_path), list[str]()
    for target in ("portable", "stm32", "size"):
        try:
            found = retarget(source, TARGETS[target])
        except (UsageError, UnsupportedModel) as error:  # never a fault of ours, exit code 5
            refusals.append(error.message)
            continue
        path = tmp_path / f"{target}.onnx"
        write(found.model, path)
        sessions = [Session(each, optimization="off") for each in (source, path)]
        shape = [d or 2 for d in sessions[0].inputs[0].shape]
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        first, second = (session.run({session.inputs[0].name: x})[0] for session in sessions)
        assert np.array_equal(first, second)
    assert all(source.name in message for message in refusals)
