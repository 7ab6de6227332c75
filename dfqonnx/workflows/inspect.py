"""What a run would do with a model, without running anything: `inspect` and `run --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import NodeRules, QuantizationConfig
from dfqonnx.errors import UnsupportedModel
from dfqonnx.placement.inspection import Inspection, build_inspection, refusal
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.targets.profile import DEFAULT_TARGET
from dfqonnx.workflows.choose_widths import choose_all_widths
from dfqonnx.workflows.outline import outline_run
from dfqonnx.workflows.preflight import check_disk, preflight
from dfqonnx.workflows.prepare_measures import open_run_sets
from dfqonnx.workflows.quick_inspect import inspect_opened
from dfqonnx.workflows.run import plan_quantizers
from dfqonnx.workflows.teacher import choose_device, open_program, open_teacher


def dry_run(config: RunConfig, *, progress: Progress | None = None) -> Inspection:
    """Check everything that a run checks, and return what it would do; nothing is written.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    preflight(config)
    context = RunContext(
        seed=config.seed,
        device=choose_device(config.device),
        progress=progress or SilentProgress(),
    )
    try:
        teacher = open_teacher(config, context)
        (config,) = choose_all_widths((config,), teacher, context)
        plan = plan_quantizers(config, teacher, context.progress)
    except UnsupportedModel as error:
        return refusal(config.model, config.quant, error)
    check_disk(config, pixels=pixel_bytes(config.recipe.synthesis, teacher.inputs.shape))
    sets, _ = open_run_sets(config, teacher.model, teacher.inputs)
    outline = outline_run(config, teacher, plan, sets, context=context)
    found = build_inspection(teacher.model, plan, config.quant)
    choice = None if config.search is None else config.search.choice
    return replace(found, outline=outline, bit_choice=choice)


def inspect(
    model: Path,
    quant: QuantizationConfig,
    preprocess: Preprocessing | None = None,
    *,
    image_size: tuple[int, ...] | None = None,
    target: str = DEFAULT_TARGET,
    given: Mapping[str, NDArray[Any]] | None = None,
    rules: NodeRules | None = None,
) -> Inspection:
    """Inspect a model, and check whether every node can be trained through.

    Returns:
        the inspection; it has `refusals` when a run would end with exit code 3.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        found, _ = open_program(model, image_size=image_size, given=given)
    except UnsupportedModel as error:
        return refusal(model, quant, error)
    return inspect_opened(model, found, quant, preprocess, target=target, rules=rules)
