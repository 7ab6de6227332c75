"""What a run would do with a model, known without running anything: `inspect` and `--dry-run`."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.config.commands import RunSpec
from dfqonnx.config.recipe import check_needs
from dfqonnx.convert.importer import narrow, to_program
from dfqonnx.core.input_format import InputSpec
from dfqonnx.core.progress import Progress, Silent
from dfqonnx.core.quantization import QuantSpec
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.load import load
from dfqonnx.graph.model import Model
from dfqonnx.graph.normalize import normalise
from dfqonnx.placement.inspection import Inspection, inspect, refusal
from dfqonnx.placement.place import choose_sites
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.workflows.preflight import check_room, preflight
from dfqonnx.workflows.resolve_inputs import offers, open_eval_data, settle_inputs
from dfqonnx.workflows.teacher import check_teacher, choose_device


def plan(spec: RunSpec, *, progress: Progress | None = None) -> Inspection:
    """Check everything that a run would check, and say what it would do; nothing is written.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    preflight(spec)
    choose_device(spec.device)
    found, model = _look(spec.model, spec.quant, spec.inputs, spec.image_size)
    if model is None:
        return found
    check_needs(spec.recipe, spec.model, there=offers(model))
    check_room(spec, pixels=pixel_bytes(spec.recipe.synth, model.input_shape))
    inputs = settle_inputs(
        spec.inputs,
        model,
        metadata=model.source.metadata,
        seed=spec.seed,
        progress=progress or Silent(),
    )
    open_eval_data(spec.eval_data, model, inputs.spec)
    return found


def preview(
    model: Path,
    quant: QuantSpec,
    inputs: InputSpec | None = None,
    *,
    image_size: tuple[int, ...] | None = None,
) -> Inspection:
    """Inspect a model, and try whether every node can be trained through.

    Returns:
        what was found; with `refusals` when a run would end with exit code 3.

    Raises:
        UsageError: the file cannot be read.
    """
    return _look(model, quant, inputs, image_size)[0]


def _look(
    path: Path, quant: QuantSpec, inputs: InputSpec | None, image_size: tuple[int, ...] | None
) -> tuple[Inspection, Model | None]:
    """Return what `run` will find, by its own steps; the model is None where it is refused."""
    try:
        model = narrow(normalise(load(path), image_size=image_size))
        check_teacher(path, to_program(model), model.input_shape)
    except UnsupportedModel as error:
        return refusal(path, quant, error), None
    sites = choose_sites(model, quant, input_signed=inputs is None or inputs.signed)
    return inspect(model, sites, quant), model
