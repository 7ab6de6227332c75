"""Networks of every kind through the whole run: file, contract, measures, what inspect says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.importer import truncate_at_unsupported
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.report.report import Report
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
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
INPUTS = 256  # that outputs are compared on
DECIBELS = 28.0
"""The power of every real output over that of its noise, at least, at 8 bits.

255 steps over k deviations either way have the noise (2 k / 255)^2 / 12 of the power: -37 dB at
k = 6. Weights and activations of four layers make eight such roundings, together -28 dB. The
report's ratio counts the variance instead, which has no such bound: a random network makes nearly
the same of all inputs, and a grid's noise is a share of the power.
"""


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


def power_over_noise(path: Path, student: Path, report: Report) -> dict[str, float]:
    """Return 10 log10(sum t^2 / sum (t - s)^2) of real outputs on leaves, fields for no images."""
    sessions = [
        ort.InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (path, student)
    ]
    port = sessions[0].get_inputs()[0]
    assert report.preprocess is not None
    read = Preprocessing.parse(report.preprocess, name="report")
    batch, *shape = port.shape
    format_ = InputFormat(read, tuple(n if isinstance(n, int) else 64 for n in shape))
    size = format_.image_size
    if format_.is_image:
        pixels = sample_dead_leaves(INPUTS, size, torch.Generator().manual_seed(1)).numpy()
    else:
        pixels = np.concatenate(list(structured_fields(INPUTS, size, np.random.default_rng(1))))
    kinds = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(uint8)": "u1"}
    x = format_.to_tensor(pixels).astype(kinds[port.type])
    each = batch if isinstance(batch, int) else INPUTS
    power: Counter[str] = Counter()
    noise: Counter[str] = Counter()
    real = [o.name for o in sessions[0].get_outputs() if "float" in o.type]
    for first in range(0, INPUTS, each) if real else ():
        found = (s.run(real, {port.name: x[first : first + each]}) for s in sessions)
        for name, teacher, quantized_ in zip(real, *found, strict=True):
            power[name] += np.square(teacher.astype(np.float64)).sum()
            noise[name] += np.square(teacher.astype(np.float64) - quantized_).sum()
    return {name: 10 * float(np.log10(power[name] / noise[name])) for name in real}


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
        if output.kind in {"classes", "mask", "labels"}:
            assert output.same is not None
    kept = power_over_noise(path, tmp_path / "out-8" / report.student.path, report)
    assert {n: db for n, db in kept.items() if db < DECIBELS} == {}
    # size and speed only warn: files this small hold more of quantizers than of weights
    failed = [gate.rule for gate in report.gates if gate.holds is False and gate.is_required]
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
    path, report = quantized(small, tmp_path)
    student = onnx.load(tmp_path / "out-8" / report.student.path)
    assert ports(list(student.graph.input)) == ports(list(small.graph.input))
    assert ports(list(student.graph.output)) == ports(list(small.graph.output))
    kept = power_over_noise(path, tmp_path / "out-8" / report.student.path, report)
    assert set(kept) == {"age", "group"}
    assert min(kept.values()) >= DECIBELS
    # the student in torch reads what the file is fed: numbers rounded to half precision
    rule = "the file computes the codes of the trained student"
    assert [gate.holds for gate in report.gates if gate.rule == rule] == [True]


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
