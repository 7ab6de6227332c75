"""The outline of a run: how long each stage takes, what it needs, and which rules it can decide.

Seconds are those of `stage_seconds`. Eight bits are trained only where ranges alone leave the
student too far off, which nothing tells before: the time is told without, and with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.gates import FILE_QUANTITIES, LABELED_QUANTITIES, GateRule
from dfqonnx.core.context import RunContext
from dfqonnx.core.memory_model import predict_memory
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.run_counts import RunCounts
from dfqonnx.core.run_outline import (
    STAGES,
    GateOutline,
    RunOutline,
    StageOutline,
    describe_seconds,
)
from dfqonnx.evaluation.evaluate import EvaluationData
from dfqonnx.evaluation.statistics import wilson_bounds
from dfqonnx.workflows.stage_seconds import count_run, time_stages
from dfqonnx.workflows.teacher import Teacher

LEAST_TOLD = 2.0  # seconds of a stage that is worth a word
BUDGET_SHARES = {  # of a budget, about
    "synthesize": 0.35, "initialize": 0.1, "distill": 0.4, "export": 0.02, "evaluate": 0.13,
}  # fmt: skip
TRAINED_SOURCES = {"generator"}  # whose time follows from no count here


def outline_run(
    config: RunConfig,
    teacher: Teacher,
    plan: QuantizationPlan,
    sets: EvaluationData,
    *,
    context: RunContext,
) -> RunOutline:
    """Return what a run will do without a budget; the network is passed a few times."""
    recipe = config.recipe
    counts = count_run(config, teacher, plan, context)
    stages = tuple(_time_stages(config, counts, teacher, sets, context=context))
    return RunOutline(
        stages=stages,
        images=counts.synthesis.images,
        memory_mib=predict_memory(counts).peak / 2**20,
        files=list_files(config),
        gates=tuple(judge_gate(rule, sets, counts.held_out) for rule in config.gates),
        seconds_known=recipe.synthesis.source not in TRAINED_SOURCES,
    )


def share_work(outlines: Sequence[RunOutline], budget: float | None) -> tuple[RunOutline, ...]:
    """Return the outlines of a run's targets as they are in one run, which makes images once.

    Their seconds add up to those of the run, and a `budget` in seconds is for all of them.
    """
    found = []
    for index, outline in enumerate(outlines):
        stages = outline.stages
        if index:
            about = "those of the first target"
            stages = tuple(
                replace(stage, seconds=0.0, about=about) if stage.name == "synthesize" else stage
                for stage in stages
            )
        found.append(replace(outline, stages=stages))
    whole = sum(outline.most_seconds for outline in found)  # what may not be needed included
    if budget is None or whole <= budget:
        return tuple(found)
    share = budget / whole
    return tuple(
        replace(
            each,
            stages=tuple(replace(stage, seconds=share * stage.seconds) for stage in each.stages),
        )
        for each in found
    )


def tell_outline(
    config: RunConfig,
    teacher: Teacher,
    plan: QuantizationPlan,
    sets: EvaluationData,
    *,
    targets: int,
    left: Mapping[str, float],
    context: RunContext,
) -> RunOutline | None:
    """Tell the progress of a run which stages are to come, and how long each takes.

    `left` has the share that is to be done of stages that a run before began.

    Returns:
        the outline for one of the `targets`; None where its seconds are not known.
    """
    progress, inputs = context.progress, teacher.inputs
    fed = f"The model reads {inputs.describe_values()}; the work runs on {context.device}."
    if config.budget is not None:
        seconds = context.budget_seconds or config.budget
        progress.note(f"{fed} It takes at most {describe_seconds(seconds)}.")
        return _share_budget(config.budget, targets).remaining(left)
    outline = outline_run(config, teacher, plan, sets, context=context)
    if not outline.seconds_known:
        progress.note(f"{fed} How long it takes: {config.recipe.cost or 'not known'}.")
        return None
    outline = outline.remaining(left)
    whole = outline.for_targets(targets)
    parts = ", ".join(
        f"{STAGES[stage.name]} {describe_seconds(stage.seconds)}"
        for stage in whole.stages
        if stage.seconds >= LEAST_TOLD and stage.is_certain
    )
    for_all = f" for {targets} targets" if targets > 1 else ""
    time = f"It takes about {whole.describe_time()}{for_all} ({parts}; --budget 10m sets a limit)."
    progress.note(f"{fed} {time}")
    return outline


def _share_budget(budget: float, targets: int) -> RunOutline:
    stages = (
        StageOutline(name=name, seconds=share * budget / (1 if name == "synthesize" else targets))
        for name, share in BUDGET_SHARES.items()
    )
    return RunOutline(stages=tuple(stages), images=0, memory_mib=0.0, files=())


def list_files(config: RunConfig) -> tuple[str, ...]:
    """Return what a run writes into its folder."""
    names = [config.student_name, "report.html", "report.md",
             "report.json", "recipe.yaml", "log.jsonl", "synthetic/"]  # fmt: skip
    return (*names, "junit.xml") if config.gates or config.strict else tuple(names)


def _time_stages(
    config: RunConfig,
    counts: RunCounts,
    teacher: Teacher,
    sets: EvaluationData,
    *,
    context: RunContext,
) -> Iterator[StageOutline]:
    labeled = 0 if sets.data is None else len(sets.data)
    seconds = time_stages(
        counts,
        teacher,
        labeled=labeled,
        precision=config.recipe.synthesis.pixels.precision,
        context=context,
    )
    images = f"{counts.synthesis.images:,} images"
    yield StageOutline(name="synthesize", seconds=seconds.synthesize, about=images)
    about = f"by {counts.calibration:,} of them"
    yield StageOutline(name="initialize", seconds=seconds.initialize, about=about)
    if counts.possible_steps:
        about = f"about {counts.possible_steps:,} steps of {counts.batch} images"
        yield StageOutline(
            name="distill",
            seconds=seconds.possible_distill,
            about=about if counts.steps else f"{about}, where ranges alone leave it too far off",
            is_certain=counts.steps > 0,
        )
    yield StageOutline(name="export", seconds=1.0)
    about = f"on {labeled:,} images of yours" if labeled else f"on {counts.held_out} held-out ones"
    yield StageOutline(name="evaluate", seconds=seconds.evaluate, about=about)


def judge_gate(rule: GateRule, sets: EvaluationData, held_out: int) -> GateOutline:
    """Return whether a rule can be decided with the data at hand."""
    quantity, measure = rule.quantity, rule.measure
    has_labels = sets.data is not None and sets.data.labels is not None
    if isinstance(quantity, str) and quantity in FILE_QUANTITIES:
        return GateOutline(rule=rule.text, can_be_decided=True, why="it is about the file")
    needs = quantity in LABELED_QUANTITIES or (measure is not None and measure.needs_labels)
    if needs and not has_labels:
        why = "it needs labels: give --eval-data, or use estimated_drop or agreement"
        return GateOutline(rule=rule.text, can_be_decided=False, why=why)
    count = len(sets.data) if sets.data is not None else held_out
    if quantity == "agreement" and rule.operator in {">=", ">"}:
        return _judge_agreement(rule, count)
    images = f"{count:,} images" + ("" if sets.data is not None else ", synthetic and held out")
    return GateOutline(rule=rule.text, can_be_decided=True, why=f"measured on {images}")


def _judge_agreement(rule: GateRule, count: int) -> GateOutline:
    best = wilson_bounds(1.0, count)[0] if count else 0.0
    if best >= rule.bound:
        why = f"{count:,} images can prove up to {100 * best:.2f} %"
        return GateOutline(rule=rule.text, can_be_decided=True, why=why)
    needed = next((n for k in range(1, 24) if wilson_bounds(1.0, n := 2**k)[0] >= rule.bound), None)
    more = f"about {needed:,} would be enough" if needed is not None else "no number would"
    why = f"{count:,} images can prove {100 * best:.1f} % at most; {more} (--eval-data)"
    return GateOutline(rule=rule.text, can_be_decided=False, why=why)
