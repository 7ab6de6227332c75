"""The outline of a run: how long each stage takes, what it needs, and which rules it can decide.

Times come from one pass of the float network, measured here, and from counts:

    making images      optimization steps * images of a batch * seconds of a step, and painting
    setting ranges     calibration images * 10 passes
    training           steps * (STEP_SECONDS + images of a batch * 4 passes * FAKE_QUANTIZED)
    measuring          held-out images * 20 passes, 512 images of the estimate * 2, timing

On ResNet-20 and MobileNetV1 0.25 they are right within a factor of two. Networks whose codes are
held in training (`distill/schedule.hold_codes`) train a tenth as long as is told: a detector was
told 48 minutes and took 9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.gates import FILE_QUANTITIES, LABELED_QUANTITIES, GateRule
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.run_outline import (
    STAGES,
    GateOutline,
    RunOutline,
    StageOutline,
    describe_seconds,
)
from dfqonnx.distill.schedule import default_steps, training_budget
from dfqonnx.evaluation.evaluate import EvaluationData
from dfqonnx.evaluation.statistics import wilson_bounds
from dfqonnx.synthesis.budget import (
    SynthesisPlan,
    TeacherCost,
    measure_cost,
    measure_optimization_rate,
    pixel_bytes,
    plan_synthesis,
)
from dfqonnx.workflows.teacher import Teacher
from dfqonnx.workflows.time_limits import (
    CALIBRATION_PASSES,
    ESTIMATE_PASSES,
    FIXED_IMAGES,
    LATENCY_SECONDS,
    PROOF_PASSES,
    REPORT_SECONDS,
    measure_pass,
)

STEP_SECONDS = 0.012  # of a training step, whatever the network's size
FAKE_QUANTIZED = 1.5  # times the passes of a float network that those of a student take
STEP_PASSES = 4  # of an image in training: one of the teacher, three of the student
PAINTED_SECONDS = 6e-8  # of a pixel of a procedural image
TYPICAL_KL = 0.2  # nats, of an untrained student: as many steps as w4a4 takes
LOADED_MIB = 450.0  # libraries
KEPT_BYTES = 12  # of an activation in a training step
CALIBRATION_IMAGES = 512  # where the recipe leaves it open
MEASURED_TIMES = 3  # a pass, of which the shortest is believed
LEAST_TOLD = 2.0  # seconds of a stage that is worth a word
BUDGET_SHARES = {  # of a budget, about
    "synthesize": 0.35, "initialize": 0.1, "distill": 0.4, "export": 0.02, "evaluate": 0.13,
}  # fmt: skip
TRAINED_SOURCES = {"generator"}  # whose time follows from no count here


@dataclass(frozen=True)
class _Counts:
    """What the times are made of."""

    plan: SynthesisPlan
    cost: TeacherCost
    steps: int  # of training
    held_out: int


def outline_run(
    config: RunConfig,
    teacher: Teacher,
    plan: QuantizationPlan,
    sets: EvaluationData,
    *,
    context: RunContext,
) -> RunOutline:
    """Return what a run will do; the network is passed a few times."""
    shape, recipe = teacher.inputs.shape, config.recipe
    cost = measure_cost(teacher.program, shape)
    synthesis = plan_synthesis(recipe.synthesis, cost, shape, scale=recipe.synthesis.budget_scale)
    training = recipe.distillation
    steps = training.steps
    if steps is None:
        budget = training_budget(plan.narrowest(), kl=TYPICAL_KL * (plan.narrowest().weights < 8))
        work, values = cost.multiply_adds, cost.activations
        steps = default_steps(work, budget, training.batch_size, values=values)
    held_out = min(training.holdout_images, synthesis.images // 8)
    counts = _Counts(synthesis, cost, steps, held_out)
    stages = tuple(_time_stages(config, teacher, counts, sets, context=context))
    if config.budget is not None:
        whole = sum(stage.seconds for stage in stages)
        share = min(1.0, config.budget / whole)
        stages = tuple(
            StageOutline(name=s.name, seconds=share * s.seconds, about=s.about) for s in stages
        )
    kept = KEPT_BYTES * cost.activations * training.batch_size
    bytes_needed = 2 * pixel_bytes(recipe.synthesis, shape) + kept + 3 * teacher.model.source.bytes
    return RunOutline(
        stages=stages,
        images=synthesis.images,
        memory_mib=LOADED_MIB + bytes_needed / 2**20,
        files=list_files(config),
        gates=tuple(judge_gate(rule, sets, held_out) for rule in config.gates),
        seconds_known=recipe.synthesis.source not in TRAINED_SOURCES,
    )


def tell_outline(
    config: RunConfig,
    teacher: Teacher,
    plan: QuantizationPlan,
    sets: EvaluationData,
    *,
    context: RunContext,
) -> None:
    """Tell the progress of a run which stages are to come, and how long each takes."""
    progress, inputs = context.progress, teacher.inputs
    fed = f"The model reads {inputs.describe_values()}; the work runs on {context.device}."
    if config.budget is not None:
        progress.note(f"{fed} It takes at most {describe_seconds(config.budget)}.")
        progress.expect({name: share * config.budget for name, share in BUDGET_SHARES.items()})
        return
    outline = outline_run(config, teacher, plan, sets, context=context)
    if not outline.seconds_known:
        progress.note(f"{fed} How long it takes: {config.recipe.cost or 'not known'}.")
        return
    parts = ", ".join(
        f"{STAGES[stage.name]} {describe_seconds(stage.seconds)}"
        for stage in outline.stages
        if stage.seconds >= LEAST_TOLD
    )
    whole = describe_seconds(outline.seconds)
    progress.note(f"{fed} It takes about {whole} ({parts}; --budget 10m sets a limit).")
    progress.expect({stage.name: stage.seconds for stage in outline.stages})


def list_files(config: RunConfig) -> tuple[str, ...]:
    """Return what a run writes into its folder."""
    names = [config.student_name, "report.html", "report.md",
             "report.json", "recipe.yaml", "log.jsonl", "synthetic/"]  # fmt: skip
    return (*names, "junit.xml") if config.gates or config.strict else tuple(names)


def _time_stages(
    config: RunConfig,
    teacher: Teacher,
    counts: _Counts,
    sets: EvaluationData,
    *,
    context: RunContext,
) -> Iterator[StageOutline]:
    shape, plan = teacher.inputs.shape, counts.plan
    once = min(measure_pass(teacher.program, shape) for _ in range(MEASURED_TIMES))
    images = PAINTED_SECONDS * plan.images * math.prod(shape)
    if plan.optimized:
        rate = measure_optimization_rate(teacher.program, shape, context)
        images += plan.steps * plan.batch / rate
    yield StageOutline(name="synthesize", seconds=images, about=f"{plan.images:,} images")
    training = config.recipe.distillation
    calibration = min(training.calibration_images, plan.images)
    yield StageOutline(
        name="initialize",
        seconds=calibration * CALIBRATION_PASSES * once,
        about=f"by {calibration:,} of them",
    )
    if counts.steps:
        passes = STEP_PASSES * FAKE_QUANTIZED * training.batch_size
        yield StageOutline(
            name="distill",
            seconds=counts.steps * (STEP_SECONDS + passes * once),
            about=f"about {counts.steps:,} steps of {training.batch_size} images",
        )
    yield StageOutline(name="export", seconds=1.0)
    labeled = 0 if sets.data is None else len(sets.data)
    proof = counts.held_out * PROOF_PASSES + FIXED_IMAGES * ESTIMATE_PASSES + 2 * labeled
    about = f"on {labeled:,} images of yours" if labeled else f"on {counts.held_out} held-out ones"
    yield StageOutline(
        name="evaluate", seconds=proof * once + LATENCY_SECONDS + REPORT_SECONDS, about=about
    )


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
