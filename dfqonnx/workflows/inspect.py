"""What a run would do with a model, without running anything: `inspect` and `run --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import NodeRules, QuantizationConfig
from dfqonnx.core.run_outline import RunOutline
from dfqonnx.errors import UnsupportedModel
from dfqonnx.placement.inspection import Inspection, build_inspection, refusal
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.targets.profile import DEFAULT_TARGET
from dfqonnx.workflows.choose_widths import choose_all_widths
from dfqonnx.workflows.fit_to_memory import fit_to_memory
from dfqonnx.workflows.outline import outline_run, share_work
from dfqonnx.workflows.preflight import check_disk, check_paths, preflight
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
    (found,) = dry_run_targets((config,), progress=progress)
    return found


def dry_run_targets(
    configs: Sequence[RunConfig], *, progress: Progress | None = None
) -> tuple[Inspection, ...]:
    """Return what a run for several targets would do for each of them; see `dry_run`.

    `configs` are as for `run_targets`; their seconds add up to those of the run.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    first = configs[0]
    preflight(first)
    for config in configs[1:]:
        check_paths(config)
    context = RunContext(
        seed=first.seed,
        device=choose_device(first.device),
        progress=progress or SilentProgress(),
    )
    try:
        teacher = open_teacher(first, context)
        configs = choose_all_widths(configs, teacher, context)
    except UnsupportedModel as error:
        return tuple(refusal(each.model, each.quant, error) for each in configs)
    check_disk(first, pixels=pixel_bytes(first.recipe.synthesis, teacher.inputs.shape))
    sets, _ = open_run_sets(first, teacher.model, teacher.inputs)
    outlines: list[RunOutline] = []
    found: list[Inspection] = []
    for config in configs:
        try:
            plan = plan_quantizers(config, teacher, context.progress)
        except UnsupportedModel as error:
            found.append(refusal(config.model, config.quant, error))
            continue
        fitting = fit_to_memory(config, teacher, plan, context)
        outlines.append(outline_run(config, teacher, plan, sets, context=fitting))
        choice = None if config.search is None else config.search.choice
        inspection = build_inspection(teacher.model, plan, config.quant)
        found.append(replace(inspection, bit_choice=choice))
    told = iter(share_work(outlines, first.budget))
    return tuple(each if each.refusals else replace(each, outline=next(told)) for each in found)


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
