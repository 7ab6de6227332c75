"""The estimate as a user meets it: a live student, and every reason not to tell."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfqonnx.convert.importer import to_program
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.evaluation.drop_estimate import estimate
from dfqonnx.evaluation.drop_estimate.estimate import estimate_from_outputs, estimate_losses
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.session import Session
from dfqonnx.synthesis.sources.dead_leaves import dead_leaves
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.workflows.resolve_inputs import read_real_images

RNG = np.random.default_rng(1)
INPUTS = InputFormat(PRESETS["cifar10"], (3, 32, 32))


def answers(n: int = 64, classes: int = 10, scale: float = 3.0) -> np.ndarray:
    return scale * RNG.normal(size=(n, classes)).astype(np.float32)


def plain_student(teacher: Path, out: Path, bits: str) -> Path:
    model = normalize(load(teacher))
    program = to_program(model)
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths.parse(bits)), ONNXRUNTIME_CPU, input_signed=True
    )
    student = Student(program, sites)
    generator = torch.Generator().manual_seed(3)
    made = dead_leaves(64, (32, 32, 3), generator)
    student.initialize([INPUTS.to_tensor(torch.cat(list(made)))])
    write(export(model, sites, student.qparams()), out)
    return out


def test_a_student_made_here_loses_what_the_interval_says(
    root: Path, shared: Path, tmp_path: Path
) -> None:
    teacher = root / "models" / "resnet20.onnx"
    student = plain_student(teacher, tmp_path / "s.onnx", "w3a4")  # widths that no known one has
    with np.load(shared / "data" / "cifar10_test.npz") as data:
        x, y = data["x"][:2000], data["y"][:2000]
    chosen = []
    for path in (teacher, student):
        session = Session(path)
        name = session.inputs[0].name
        found = session.run_batched({name: INPUTS.to_tensor(x)}, size=100)
        chosen.append(next(iter(found.values())).argmax(1))
    true = 100 * float((chosen[0] == y).mean() - (chosen[1] == y).mean())
    np.savez(tmp_path / "few.npz", x=x[-100:])
    for images in (None, tmp_path / "few.npz"):
        real = read_real_images(images, INPUTS)
        told = estimate_losses(teacher, student, inputs=INPUTS, real=real).drop
        assert told.low is not None
        assert told.high is not None
        assert told.low <= true <= told.high
    agreement = estimate_losses(teacher, student, inputs=INPUTS).agreement
    assert agreement.low is not None
    assert agreement.high is not None
    assert agreement.low <= float((chosen[0] == chosen[1]).mean()) <= agreement.high


def test_the_float_model_itself_is_told_to_lose_nothing(root: Path) -> None:
    teacher = root / "models" / "resnet20.onnx"
    told = estimate_losses(teacher, teacher, inputs=INPUTS).drop
    assert told.value is not None
    assert told.low is not None
    assert abs(told.value) < 0.01
    assert told.low < 0 < (told.high or 0)


def test_it_says_where_it_cannot_tell(root: Path) -> None:
    teacher = root / "models" / "resnet20.onnx"
    values = InputFormat(PRESETS["raw"], (32, 32))
    assert "no image" in estimate_losses(teacher, teacher, inputs=values).drop.reason
    few = answers(classes=3)
    assert "3 classes" in estimate_from_outputs("fixed", few, [few, few]).reason
    broken = answers()
    bad = broken.copy()
    bad[0, 0] = np.nan
    assert "finite" in estimate_from_outputs("fixed", broken, [broken, bad]).reason
    one = answers()
    one[:, 2] += 100
    assert "one and the same class" in estimate_from_outputs("fixed", one, [one, one]).reason
    vague = answers(scale=0.01)
    found = estimate_from_outputs("fixed", vague, [vague, vague])
    assert found.value is None
    assert "less certain" in found.reason


def test_beyond_the_worst_known_student_the_interval_is_open_upwards() -> None:
    t = answers(n=512)
    found = estimate_from_outputs("fixed", t, [t, -t])
    assert found.high == 100.0
    assert "further from the float model" in found.reason


def test_of_two_classes_the_agreement_alone_is_estimated(tmp_path: Path) -> None:
    path = a_file(tmp_path / "net.onnx", [1, 1, 2], flatten=True)
    preprocessing = PRESETS["zero-one"].fitted((1, 1, 2))
    inputs = InputFormat(replace(preprocessing, mean=(0.0,), std=(1.0,)), (1, 1, 2))
    found = estimate_losses(path, path, inputs=inputs)
    assert "2 classes" in found.drop.reason
    assert found.agreement.value == pytest.approx(1.0, abs=1e-3)


def test_too_few_real_images_leave_the_fixed_ones_in_charge(root: Path) -> None:
    teacher = root / "models" / "resnet20.onnx"
    few = np.zeros((5, 32, 32, 3), np.uint8)
    told = estimate_losses(teacher, teacher, inputs=INPUTS, real=few).drop
    assert told.basis == "512 fixed images"
    assert "fewer than 32" in told.reason


def a_file(path: Path, shape: list[int], *, flatten: bool) -> Path:
    kind = "Flatten" if flatten else "Relu"
    node = onnx.helper.make_node(kind, ["x"], ["y"])
    size = [1, math.prod(shape)] if flatten else [1, *shape]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", [1, *shape]), ("y", size))
    ]
    graph = onnx.helper.make_graph([node], "net", values[:1], values[1:])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shape", "flatten", "why"),
    [
        ([3, 8, 8], False, "no output holds classes"),
        ([40], False, "the model reads no image"),
        ([1, 1, 2001], True, "2001 classes"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_reason_before_any_image_is_made(
    shape: list[int], flatten: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "make_fixed_images", None)
    path = a_file(tmp_path / "net.onnx", shape, flatten=flatten)
    preprocessing = PRESETS["zero-one"].fitted(tuple(shape))
    inputs = InputFormat(replace(preprocessing, mean=(0.0,), std=(1.0,)), tuple(shape))
    found = estimate_losses(path, path, inputs=inputs).drop
    assert found.value is None
    assert why in found.reason
    if why != "2001 classes":
        assert (
            "which of two files is the better one, not what is lost on real inputs" in found.reason
        )
