"""How many seconds each stage of a run takes: counted as the stages work, timed by one pass.

Counts follow `distill` and `synthesize` as far as they can without an image; what they cost is in
`core/cost_model`, whose t is the time of one image through the float network, measured here. A
training step takes 4.2 passes of an image on ResNet-20 and FastestDet and 3.5 on MobileNetV1 0.25,
whether codes are held or not. Whether eight bits, or any bits at quick effort, are trained at all
is known only when ranges are set.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.config.synthesis import AUTO, Precision
from dfqonnx.convert.network_size import measure_size
from dfqonnx.core.context import RunContext
from dfqonnx.core.cost_model import MachineCost, StageSeconds, predict_stages
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import MAX_BITS, BitWidths
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.run_counts import ImageCounts, LayerShape, RunCounts
from dfqonnx.distill.batch_size import choose_batch_sizes
from dfqonnx.distill.schedule import (
    BUDGET_AT_8_BITS,
    choose_dampings,
    default_steps,
    hold_codes,
    reduce_where_held,
    training_budget,
)
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.code_search import MOST_CODE, WORK
from dfqonnx.ptq.gptq import can_refit
from dfqonnx.synthesis.budget import (
    SHARE,
    SynthesisPlan,
    measure_optimization_rate,
    plan_synthesis,
)
from dfqonnx.synthesis.range_probes import count_probes
from dfqonnx.workflows.image_supply import find_first_images
from dfqonnx.workflows.machine_speed import measure_speed
from dfqonnx.workflows.teacher import Teacher
from dfqonnx.workflows.time_limits import HELD_OUT_OF, measure_pass

MEASURED_TIMES = 3  # a pass, of which the shortest is believed


def count_run(
    config: RunConfig, teacher: Teacher, plan: QuantizationPlan, context: RunContext
) -> RunCounts:
    """Return the counts of a run; one blank image passes the network."""
    shape, recipe = teacher.inputs.shape, config.recipe
    training, bits = recipe.distillation, plan.narrowest()
    scale, memory = recipe.synthesis.budget_scale, context.memory
    first = find_first_images(recipe, teacher, bits, budget=config.budget, memory=memory)
    kl = teacher.expect_divergence(bits)
    optimizes = recipe.synthesis.source == "optimized" or (
        recipe.synthesis.source == AUTO and teacher.inputs.is_image
    )
    synthesis, all_images = (
        made if optimizes else replace(made, optimized=0)
        for made in (
            plan_synthesis(recipe.synthesis, teacher.cost, shape, scale=s, memory=memory)
            for s in (scale if first is None else first.work, scale)
        )
    )
    student = Student(teacher.program, plan).to(context.device)
    blank = torch.zeros(1, *shape, device=context.device)
    values = student.count_activations(blank)
    quiet = replace(context, progress=SilentProgress())
    sizes = choose_batch_sizes(training, values, quiet)
    known = teacher.inputs.is_image or bool(teacher.model.statistics)
    fitted = known or min(bits.weights, bits.activations) < MAX_BITS
    fitting = choose_dampings(training, bits, known=known, has_classes=teacher.has_classes)
    steps, possible = _count_steps(
        replace(training, batch_size=sizes.training), student, bits, values=values, kl=kl
    )
    images = synthesis.images
    calibration = min(training.calibration_images, images)
    size = measure_size(
        teacher.program, shape, quantized=values, file_bytes=teacher.model.source.bytes
    )
    return RunCounts(
        size=size,
        synthesis=_count_images(synthesis),
        all_images=_count_images(all_images),
        batch=sizes.training,
        part=sizes.part,
        calibration_batch=min(sizes.calibration, calibration),
        calibration=calibration,
        probes=count_probes(calibration),
        gptq=min(sizes.gptq, calibration),
        dampings=len(fitting.gptq_damping),
        held_out=min(training.holdout_images, images // HELD_OUT_OF),
        steps=steps,
        possible_steps=possible if fitted else 0,
        has_statistics=bool(teacher.model.statistics),
        layers=tuple(_shape_of(layer) for layer in student.layers() if can_refit(layer)),
    )


def _count_images(plan: SynthesisPlan) -> ImageCounts:
    return ImageCounts(
        images=plan.images, optimized=plan.optimized, batch=plan.batch, steps=plan.steps
    )


def _shape_of(layer: QuantizedLayer) -> LayerShape:
    """Return what GPTQ's time depends on."""
    outputs, fan_in = layer.weight.shape[layer.spec.axis], layer.fan_in
    searched = layer.spec.grid.limits[1] < MOST_CODE and outputs * fan_in**2 <= WORK
    return LayerShape(outputs, fan_in, int(layer.attributes.get("group", 1)), searched)


def _count_steps(
    config: DistillationConfig,
    student: Student,
    bits: BitWidths,
    *,
    values: int,
    kl: float | None,
) -> tuple[int, int]:
    """Return the steps that are surely taken, and those where a student needs training."""
    if config.steps is not None:
        return config.steps, config.steps
    work = student.multiply_adds
    if min(bits.weights, bits.activations) == MAX_BITS:
        scaled = config.budget_scale * BUDGET_AT_8_BITS
        return 0, default_steps(work, scaled, config.batch_size, values=values)
    budget = config.budget_scale * training_budget(bits, kl=kl)
    steps = default_steps(work, budget, config.batch_size, values=values)
    held = hold_codes(config, bits, kl=kl, images=steps * config.batch_size)
    budget = reduce_where_held(budget, held, has_classes=kl is not None)
    steps = default_steps(work, budget, config.batch_size, values=values)
    may_be_near = config.needs_training_kl > 0 and kl is not None
    return 0 if may_be_near else steps, steps


def time_stages(
    counts: RunCounts,
    teacher: Teacher,
    *,
    labeled: int,
    precision: Precision = AUTO,
    context: RunContext,
) -> StageSeconds:
    """Return the seconds of the stages, `labeled` images of the user among what is measured.

    `precision` is that of image optimization.
    The network is passed a few times, and its gradients are computed a few times.
    """
    machine = measure_machine(counts, teacher, context, precision=precision)
    return predict_stages(counts, machine, labeled=labeled)


def measure_machine(
    counts: RunCounts, teacher: Teacher, context: RunContext, *, precision: Precision
) -> MachineCost:
    """Return what this machine takes for a network, by passing it a few times."""
    shape, optimize = teacher.inputs.shape, 0.0
    once = min(measure_pass(teacher.program, shape, context) for _ in range(MEASURED_TIMES))
    if counts.all_images.optimized:
        rate = measure_optimization_rate(teacher.program, shape, context, precision=precision)
        optimize = SHARE / rate
    speed = measure_speed() if context.device == "cpu" else 1.0
    return MachineCost(pass_seconds=once, optimize_seconds=optimize, speed=speed)
