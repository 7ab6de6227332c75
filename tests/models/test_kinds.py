"""Networks of every kind through the whole run: file, contract, measures, what inspect says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.importer import truncate_at_unsupported
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.report.report import Report
from dfqonnx.workflows import run as flow
from dfqonnx.workflows.inspect import inspect
from tests.models.kinds import KINDS, Kind, half

SHORT = Recipe(
    synthesis=SynthesisConfig(source="dead-leaves", images=32),
    distillation=DistillationConfig(steps=0, gptq_damping=()),
)
TRAINED = Recipe(
    synthesis=SynthesisConfig(images=24, budget_scale=0.01),
    distillation=DistillationConfig(steps=2, batch_size=8, gptq_damping=(1.0,)),
)
DECIBELS = 20.0  # what every real output keeps at 8 bits; random networks measure 27 to 45


def quantized(
    model: onnx.ModelProto, folder: Path, bits: str = "8", recipe: Recipe = SHORT
) -> tuple[Path, Report]:
    path = folder / "net.onnx"
    onnx.save(model, path)
    out = folder / f"out-{bits}"
    image = (64, 48) if model.graph.input[0].type.tensor_type.shape.dim[-1].dim_param else None
    spec = RunConfig(
        model=path,
        quant=QuantizationConfig(BitWidths.parse(bits)),
        out=out,
        recipe=recipe,
        image_size=image,
    )
    return path, flow.run(spec)


def ports(values: list[onnx.ValueInfoProto]) -> list[tuple[str, int, list[int | str]]]:
    return [
        (
            v.name,
            v.type.tensor_type.elem_type,
            [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim],
        )
        for v in values
    ]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_quantized_and_measured_as_what_it_is(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path, report = quantized(kind.model(), tmp_path)
    model = truncate_at_unsupported(
        normalize(load(path), image_size=(64, 48) if "open" in name else None)
    )
    assert model.training_outputs == kind.targets
    found = {output.name: output for output in report.agreement.outputs}
    listed = {"varying", "labels"}  # detections: as many from both by chance, or not
    for output, expected in zip(report.agreement.outputs, kind.kinds, strict=True):
        assert output.kind in (listed if expected == "varying" else {expected})
    for output in found.values():
        if output.kind not in {"labels", "varying"}:
            assert output.sqnr_db is not None
            assert output.sqnr_db >= DECIBELS
        if output.kind in {"classes", "mask", "labels"}:
            assert output.same is not None
    failed = [gate.rule for gate in report.gates if gate.holds is False]
    assert not failed
    assert report.audit is not None
    assert sum(report.audit.integer_nodes.values())
    student = onnx.load(tmp_path / "out-8" / report.student.path)
    assert ports(list(student.graph.input)) == ports(list(kind.model().graph.input))
    assert ports(list(student.graph.output)) == ports(list(kind.model().graph.output))


@pytest.mark.parametrize("name", KINDS)
def test_inspect_says_what_a_run_then_does(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = tmp_path / "net.onnx"
    onnx.save(kind.model(), path)
    found = inspect(path, QuantizationConfig(BitWidths.parse("8")))
    assert not found.refusals
    floats = {line.reason.split(":")[0] for line in found.quantizers if line.kind == "float"}
    assert set(kind.floats) <= floats


@pytest.mark.parametrize("name", ["detector", "several heads", "segmentation", "text reader"])
def test_outputs_without_classes_are_trained(name: str, tmp_path: Path) -> None:
    _, report = quantized(KINDS[name].model(), tmp_path, bits="w4a8", recipe=TRAINED)
    assert report.training is not None
    assert report.training.steps == 2
    assert report.training.untrained_error is not None
    assert 0 < report.training.untrained_error < 1
    assert (report.training.untrained_agreement is None) == (name != "several heads")


def test_an_open_size_stays_open(tmp_path: Path) -> None:
    path, report = quantized(KINDS["open size"].model(), tmp_path)
    teacher, student = (
        ort.InferenceSession(p, providers=["CPUExecutionProvider"])
        for p in (path, tmp_path / "out-8" / report.student.path)
    )
    rng = np.random.default_rng(0)
    for height, width in ((64, 48), (32, 80), (128, 128)):
        x = rng.standard_normal((2, 3, height, width)).astype("f4")
        first, second = (s.run(None, {"x": x})[0] for s in (teacher, student))
        assert first.shape == second.shape == (2, 5, height, width)
        noise = np.square(first - second).sum() / np.square(first).sum()
        assert noise < 0.05  # Gaussian pixels reach beyond what leaves calibrated; 13 dB at least


def test_half_precision_keeps_its_types_outside(tmp_path: Path) -> None:
    small = half(KINDS["several heads"].model())
    _, report = quantized(small, tmp_path)
    student = onnx.load(tmp_path / "out-8" / report.student.path)
    assert ports(list(student.graph.input)) == ports(list(small.graph.input))
    assert ports(list(student.graph.output)) == ports(list(small.graph.output))
    assert all((o.sqnr_db or 0) >= DECIBELS for o in report.agreement.outputs)


def test_integer_pixels_are_fed_as_integers(tmp_path: Path) -> None:
    _, report = quantized(KINDS["integer pixels"].model(), tmp_path)
    assert report.preprocess is not None
    assert report.preprocess["name"] == "raw"
    session = ort.InferenceSession(
        tmp_path / "out-8" / report.student.path, providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].type == "tensor(uint8)"


def test_a_network_that_begins_with_what_cannot_be_computed_is_refused_by_node(
    tmp_path: Path,
) -> None:
    kind = Kind(
        """
    q, hidden, cell = LSTM<hidden_size=4>(x, lw, lr, lb)
    z = Squeeze(q, one)
    y = MatMul(z, wo)""",
        "float[N,M,6] y",
        targets=(),
        kinds=(),
        weights={"lw": (1, 16, 8), "lr": (1, 16, 4), "lb": (1, 32), "wo": (4, 6)},
        constants={"one": np.array([1], np.int64)},
        image="float[N,5,8] x",
        backbone=False,
    )
    path = tmp_path / "net.onnx"
    onnx.save(kind.model(), path)
    found = inspect(path, QuantizationConfig(BitWidths.parse("8")))
    assert [offense.op for offense in found.refusals] == ["LSTM"]
    assert found.refusals[0].advice
    spec = RunConfig(
        model=path, quant=QuantizationConfig(BitWidths(8, 8)), out=tmp_path / "out", recipe=SHORT
    )
    with pytest.raises(UnsupportedModel, match="LSTM"):
        flow.run(spec)
    assert not (tmp_path / "out").exists()
