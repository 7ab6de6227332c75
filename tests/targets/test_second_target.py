"""A throw-away second target: one profile value and its registration, nothing else touched.

Its file is made all the way (placement, student, export) and run in ONNX Runtime, where codes and
outputs agree with the torch student's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from dfqonnx.convert.importer import to_program
from dfqonnx.core.quantization import INT8, UINT8, BitWidths, NumberFormat, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.errors import UnsupportedModel
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.export.export import export
from dfqonnx.export.opset import check_operators, choose_opset
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TARGETS, OpsetVersion, TargetProfile, register
from tests.export.qnets import Net, residual

SIGNED = TargetProfile(
    name="signed",
    about="int8 with zero point 0 throughout, opset 13, nothing rewritten",
    runtime="Throw-away",
    activations=INT8,
    weights=INT8,
    kernels=ONNXRUNTIME_CPU.kernels,
    absorbed=ONNXRUNTIME_CPU.absorbed,
    integer_clip=False,
    opsets=(OpsetVersion(13, 8),),
    best_widths=("w8a8",),
)
FORMATS = [
    replace(ONNXRUNTIME_CPU, name="int8", activations=NumberFormat(signed=True, zero_points=True)),
    replace(ONNXRUNTIME_CPU, name="uint8", weights=UINT8),
]


@pytest.fixture
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TargetProfile:
    """Register the profile (of the parameter, or `SIGNED`) for one test."""
    monkeypatch.setattr(TARGETS, "_known", dict(TARGETS._known))
    return register(getattr(request, "param", SIGNED))


def relu6() -> Net:
    net = Net()
    low, high = (net.constant(f"b{v}", np.float32(v)) for v in (0, 6))
    a = net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4)
    a = net.add(
        "Clip", net.add("MaxPool", a, name="pool0", kernel_shape=[2, 2]), low, high, name="c0"
    )
    b = net.conv(a, "depthwise", (16, 1, 3, 3), group=16, pads=[1] * 4)
    b = net.add("Clip", b, low, high, name="c1")
    c = net.add("Add", net.conv(b, "point", (16, 16, 1, 1)), a, name="sum")
    net.head(net.add("Relu", net.conv(c, "last", (16, 16, 1, 1)), name="relu"), 16)
    return net


def made(
    path: Path, bits: str, target: TargetProfile, folder: Path
) -> tuple[Path, QuantizationPlan, NDArray[np.float32], StudentOutputs]:
    """Return the exported file, the plan, images, and what the torch student computes on them."""
    model = normalize(load(path))
    quant = QuantizationConfig(BitWidths.parse(bits))
    plan = place_quantizers(model, quant, target, input_signed=True)
    student = Student(to_program(model), plan)
    x = torch.randn(32, *model.input_shape, generator=torch.Generator().manual_seed(0))
    student.initialize([x])
    out = folder / "student.onnx"
    metadata = {"dfqonnx.target": target.name}
    write(export(model, plan, student.qparams(), metadata=metadata), out)
    with torch.no_grad():
        return out, plan, x.numpy(), StudentOutputs(student.codes(x), student(x)[0].numpy())


def run(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return logits


def check_classes(
    teacher: NDArray[np.float32], student: NDArray[np.float32], deployed: NDArray[np.float32]
) -> float:
    """Hold the classes of the file against the student's; return the share that is the same.

    Without a tie in float32, logits (N, K) are the same but for the order of sums. A tie moves one
    code by one level, which is little beside what all the roundings do to the logits: two classes
    that are further apart than that keep their order.
    """
    equal = np.abs(deployed - student).max(1) <= 1e-5 * np.abs(student).max()
    best = np.sort(student, axis=1)
    decided = best[:, -1] - best[:, -2] > np.abs(student - teacher).max()
    same = deployed.argmax(1) == student.argmax(1)
    assert equal.mean() > 0.5
    assert same[equal | decided].all()
    assert np.square(deployed - student).mean() < np.square(student - teacher).mean() / 10
    return float(same.mean())


def check(
    net: Path, path: Path, target: TargetProfile, x: NDArray[np.float32], student: StudentOutputs
) -> onnx.ModelProto:
    """Hold the file of a net against ONNX's checker, the profile and the student; return it."""
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    parity = measure_parity(path, x, torch_run=student)
    assert parity is not None
    for found in (parity.on_vs_off, parity.off_vs_torch):
        assert found is not None
        assert found.largest <= 1
        assert found.fraction <= 1e-4  # exact ties in float32
    assert parity.top1_on_vs_torch == check_classes(run(net, x), student.logits, run(path, x))
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            assert arrays[node.input[2]].dtype == target.activations.dtype_for()
            assert target.activations.zero_points or arrays[node.input[2]] == 0
    return proto


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
def test_resnet20_is_made_for_it_and_computes_what_was_trained(
    bits: str, target: TargetProfile, root: Path, tmp_path: Path
) -> None:
    net = root / "models" / "resnet20.onnx"
    path, plan, x, student = made(net, bits, target, tmp_path)
    proto = check(net, path, target, x, student)
    assert plan.floats == ()
    assert [o.version for o in proto.opset_import] == [13]
    assert proto.ir_version == 8
    kinds = {t.data_type for t in proto.graph.initializer}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64}
    stem = next(t for t in proto.graph.initializer if list(t.dims) == [16, 3, 3, 3])
    assert stem.data_type == TensorProto.INT8
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in makers:
            assert makers[node.input[0]] == "QuantizeLinear"  # no Clip and no Pad on the codes


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
@pytest.mark.parametrize("net", [residual, relu6])
def test_shortcuts_and_bounded_activations_keep_their_codes(
    net: type[Net], bits: str, target: TargetProfile, tmp_path: Path
) -> None:
    onnx.save(net().proto(), tmp_path / "net.onnx")
    path, _, x, student = made(tmp_path / "net.onnx", bits, target, tmp_path)
    proto = check(tmp_path / "net.onnx", path, target, x, student)
    operators = [node.op_type for node in proto.graph.node]
    assert ("Slice" in operators) == (net is residual)


@pytest.mark.parametrize("target", FORMATS, indirect=True, ids=lambda t: t.name)
@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
def test_every_format_of_activations_and_weights_is_trained_and_written(
    bits: str, target: TargetProfile, tmp_path: Path
) -> None:
    onnx.save(relu6().proto(), tmp_path / "net.onnx")
    path, plan, x, student = made(tmp_path / "net.onnx", bits, target, tmp_path)
    proto = check(tmp_path / "net.onnx", path, target, x, student)
    weights = {each.weight for each in plan.weights}
    eight = TensorProto.INT8 if target.weights.signed else TensorProto.UINT8
    four = TensorProto.INT4 if target.weights.signed else TensorProto.UINT4
    kinds = {t.data_type for t in proto.graph.initializer if t.name in weights}
    assert kinds == {four if bits == "w4a4" else eight}


def test_the_audit_judges_a_file_by_the_target_that_it_names(
    target: TargetProfile, tmp_path: Path
) -> None:
    net = Net()
    a = net.add("HardSigmoid", net.conv("image", "stem", (8, 3, 3, 3)), name="gate")
    net.head(net.conv(a, "c1", (8, 8, 3, 3)), 8)
    onnx.save(net.proto(), tmp_path / "net.onnx")
    path, *_ = made(tmp_path / "net.onnx", "w8a8", target, tmp_path)
    reasons = {node.reason for node in audit_kernels(path).float_nodes}
    assert any("Throw-away has no integer kernel for HardSigmoid" in reason for reason in reasons)


def test_an_operator_that_its_opsets_do_not_hold_is_refused_by_name(
    target: TargetProfile, tmp_path: Path
) -> None:
    net = Net()
    a = net.add("Gelu", net.conv("image", "stem", (8, 3, 3, 3)), name="gelu")
    net.head(net.conv(a, "c1", (8, 8, 3, 3)), 8)
    onnx.save(net.proto(opset=20), tmp_path / "net.onnx")
    model: NormalizedModel = normalize(load(tmp_path / "net.onnx"))
    with pytest.raises(UnsupportedModel, match=r"gelu \(Gelu\): it cannot be written at opset 13"):
        check_operators(model.ir, target)
    assert choose_opset(model.ir, ONNXRUNTIME_CPU).opset == 21
