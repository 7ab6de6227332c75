"""Every real model that lies beside the repository: `pytest -m slow -s tests/models/test_zoo.py`.

Bounds are the project's own: a classifier keeps the teacher's class on 97 % of real images, every
other output keeps 20 dB; nothing ends with an error. `DFQONNX_ZOO=fastestdet,candy` picks models.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfqonnx.config.recipe import read_recipe
from dfqonnx.convert.importer import truncate_at_unsupported
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.workflows.inspect import inspect
from tests.conftest import SHARED
from tests.models.zoo import Outcome, find_models, input_spec, quantize

pytestmark = pytest.mark.slow
KINDS = ("weight", "activation", "float")
BOUNDS = {"agreement": 0.97, "sqnr": 20.0}
MODELS = find_models(SHARED) if (SHARED / "models").is_dir() else []
PICKED = [name for name in os.environ.get("DFQONNX_ZOO", "").split(",") if name]


def picked() -> list[Path]:
    return [m for m in MODELS if not PICKED or any(name in m.stem for name in PICKED)]


def tell(outcome: Outcome, what: str) -> None:
    name, value = outcome.measure
    print(  # noqa: T201 (a table for whoever runs this)
        f"\n| {outcome.model.stem} | {what} | {outcome.seconds:.0f} s | {outcome.cpu:.0f} s |"
        f" {name} {value:.4g} on {outcome.real_images or 'synthetic'} |"
        f" {outcome.report.verdict} |"
    )


@pytest.mark.parametrize("path", picked(), ids=lambda path: path.stem)
def test_eight_bits_keep_what_the_teacher_says(path: Path, shared: Path, tmp_path: Path) -> None:
    outcome = quantize(path, shared, tmp_path / "out", bits="8", recipe=read_recipe("default"))
    tell(outcome, "w8a8 default")
    name, value = outcome.measure
    assert value >= BOUNDS[name]
    assert outcome.report.exit_code == 0


@pytest.mark.parametrize("path", picked(), ids=lambda path: path.stem)
def test_without_training_every_model_ends(path: Path, shared: Path, tmp_path: Path) -> None:
    outcome = quantize(path, shared, tmp_path / "out", bits="8", recipe=read_recipe("ptq"))
    tell(outcome, "w8a8 ptq")
    assert outcome.report.exit_code == 0


@pytest.mark.parametrize("path", picked(), ids=lambda path: path.stem)
def test_four_bit_weights_end_without_error(path: Path, shared: Path, tmp_path: Path) -> None:
    outcome = quantize(path, shared, tmp_path / "out", bits="w4a8", recipe=read_recipe("default"))
    tell(outcome, "w4a8 default")
    assert outcome.report.exit_code == 0
    assert outcome.report.training is not None
    assert outcome.report.training.steps > 0


@pytest.mark.parametrize("path", picked(), ids=lambda path: path.stem)
def test_inspect_agrees_with_what_a_run_decides(path: Path, shared: Path) -> None:
    quant = QuantizationConfig(BitWidths.parse("8"))
    spec = input_spec(path, shared)
    found = inspect(path, quant, spec)
    assert not found.refusals
    model = truncate_at_unsupported(normalize(load(path)))
    sites = place_quantizers(
        model, quant, ONNXRUNTIME_CPU, input_signed=spec is None or spec.signed
    )
    told = {kind: [line.name for line in found.quantizers if line.kind == kind] for kind in KINDS}
    assert told["weight"] == [site.node for site in sites.weights]
    assert told["activation"] == [site.name for site in sites.activations]
    assert told["float"] == [site.node for site in sites.floats]
