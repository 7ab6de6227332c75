"""What a run would do with a model, known without running anything: `inspect` and `--dry-run`."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import check_needs
from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.errors import UnsupportedModel
from dfqonnx.export.opset import choose_opset
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.inspection import Inspection, build_inspection, refusal
from dfqonnx.placement.place import place_quantizers
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS, TargetProfile
from dfqonnx.workflows.preflight import check_room, preflight
from dfqonnx.workflows.resolve_inputs import offers, open_eval_data, resolve_inputs
from dfqonnx.workflows.teacher import check_teacher, choose_device


def dry_run(spec: RunConfig, *, progress: Progress | None = None) -> Inspection:
    """Check everything that a run would check, and say what it would do; nothing is written.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    preflight(spec)
    choose_device(spec.device)
    target = TARGETS[spec.target]
    found, model = _look(spec.model, spec.quant, target, spec.inputs, image_size=spec.image_size)
    if model is None:
        return found
    check_needs(spec.recipe, spec.model, there=offers(model))
    check_room(spec, pixels=pixel_bytes(spec.recipe.synthesis, model.input_shape))
    inputs = resolve_inputs(
        spec.inputs,
        model,
        metadata=model.source.metadata,
        seed=spec.seed,
        progress=progress or SilentProgress(),
    )
    open_eval_data(spec.eval_data, model, inputs.spec)
    return found


def inspect(
    model: Path,
    quant: QuantizationConfig,
    inputs: InputFormat | None = None,
    *,
    image_size: tuple[int, ...] | None = None,
    target: str = DEFAULT_TARGET,
) -> Inspection:
    """Inspect a model, and try whether every node can be trained through.

    Returns:
        what was found; with `refusals` when a run would end with exit code 3.

    Raises:
        UsageError: the file cannot be read.
    """
    return _look(model, quant, TARGETS[target], inputs, image_size=image_size)[0]


def _look(
    path: Path,
    quant: QuantizationConfig,
    target: TargetProfile,
    inputs: InputFormat | None,
    *,
    image_size: tuple[int, ...] | None,
) -> tuple[Inspection, NormalizedModel | None]:
    """Return what `run` will find, by its own steps; the model is None where it is refused."""
    try:
        model = truncate_at_unsupported(normalize(load(path), image_size=image_size))
        check_teacher(path, to_program(model), model.input_shape)
        choose_opset(model.ir, target, packed=False)
    except UnsupportedModel as error:
        return refusal(path, quant, error), None
    plan = place_quantizers(model, quant, target, input_signed=inputs is None or inputs.signed)
    return build_inspection(model, plan, quant), model
