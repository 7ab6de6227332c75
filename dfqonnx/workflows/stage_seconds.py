"""How many seconds each stage of a run takes: counted as the stages work, timed by one pass.

With t the seconds of one image through the float network, measured here, B the images of a training
step, and passes in multiples of t:

    making images    optimization steps * images of a batch * seconds of a step, and painting
    setting ranges   calibration images * RANGE_PASSES, probes * PROBE_PASSES, and for each damping
                     of GPTQ its images * GPTQ_PASSES, held-out ones * AGREEMENT_PASSES, solving
    training         steps * (STEP_SECONDS + B * STEP_PASSES)
    measuring        held-out images * PROOF, those of the estimate, timing, pages

GPTQ solves for each node of O outputs in G groups, M inputs of an output and P sampled positions:

    PRODUCT P M (M + 2 O/G) G + COPY P M G + COLUMN M        and, below eight bits,
    SEARCH O M^2 + SEARCH_COLUMN M

A training step takes 4.2 passes of an image on ResNet-20 and FastestDet and 3.5 on MobileNetV1
0.25, whether codes are held or not. Counts follow `distill` and `synthesize` as far as they can
without an image. Whether eight bits are trained at all is known only when ranges are set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.config.synthesis import AUTO
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import MAX_BITS, BitWidths
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.batch_size import choose_batch_sizes
from dfqonnx.distill.losses import is_classification
from dfqonnx.distill.schedule import (
    BUDGET_AT_8_BITS,
    BUDGET_WHERE_HELD,
    default_steps,
    hold_codes,
    training_budget,
)
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.code_search import MOST_CODE, WORK
from dfqonnx.ptq.gptq import MAX_POSITIONS, MIN_POSITIONS, can_refit
from dfqonnx.synthesis.budget import (
    SHARE,
    SynthesisPlan,
    TeacherCost,
    measure_cost,
    measure_optimization_rate,
    plan_synthesis,
)
from dfqonnx.synthesis.range_probes import count_probes
from dfqonnx.workflows.image_supply import choose_few
from dfqonnx.workflows.teacher import Teacher
from dfqonnx.workflows.time_limits import (
    ESTIMATE_PASSES,
    FIXED_IMAGES,
    HELD_OUT_OF,
    LATENCY_SECONDS,
    measure_pass,
)

STEP_SECONDS = 0.012  # of a training step, whatever the network's size
STEP_PASSES = 4.2  # of an image in training, teacher and backward pass included
RANGE_PASSES, PROBE_PASSES, GPTQ_PASSES, AGREEMENT_PASSES = 3.0, 22.0, 3.0, 1.6
PRODUCT, COPY, COLUMN = 1.2e-10, 1e-8, 5e-5  # seconds
SEARCH, SEARCH_COLUMN = 1.7e-8, 1.5e-4  # seconds
PAINTED_SECONDS = 6e-8  # of a pixel of a procedural image
CHECKED = 1024  # images that pass the network once they are made
PROOF = 10.0  # passes of a held-out image, in ONNX Runtime
PAGES_SECONDS = 1.5
NEAR_KL, FAR_KL = 0.05, 0.2  # nats, of untrained students without and with depthwise layers
MEASURED_TIMES = 3  # a pass, of which the shortest is believed


@dataclass(frozen=True, kw_only=True)
class RunCounts:
    """What the stages of a run do, as far as it is known before."""

    synthesis: SynthesisPlan  # of the images that are made first
    all_images: SynthesisPlan  # where eight bits turn out to need training; else the same
    cost: TeacherCost
    batch: int  # images of a training step
    calibration: int  # images
    gptq: int  # images
    dampings: int  # candidates of GPTQ
    held_out: int  # images
    steps: int  # of training, surely
    possible_steps: int  # where eight bits turn out to need training
    layers: tuple[QuantizedLayer, ...]  # that GPTQ solves


def count_run(
    config: RunConfig, teacher: Teacher, plan: QuantizationPlan, context: RunContext
) -> RunCounts:
    """Return the counts of a run; one blank image passes the network."""
    shape, recipe = teacher.inputs.shape, config.recipe
    training, bits = recipe.distillation, plan.narrowest()
    cost = measure_cost(teacher.program, shape)
    scale = recipe.synthesis.budget_scale
    few = choose_few(recipe, bits, config.budget) or scale
    optimizes = recipe.synthesis.source == "optimized" or (
        recipe.synthesis.source == AUTO and teacher.inputs.is_image
    )
    synthesis, all_images = (
        made if optimizes else replace(made, optimized=0)
        for made in (plan_synthesis(recipe.synthesis, cost, shape, scale=s) for s in (few, scale))
    )
    student = Student(teacher.program, plan).to(context.device)
    blank = torch.zeros(1, *shape, device=context.device)
    values = student.count_activations(blank)
    with torch.no_grad():
        has_classes = is_classification(student(blank)[0])
    quiet = replace(context, progress=SilentProgress())
    sizes = choose_batch_sizes(training, values, quiet)
    known = teacher.inputs.is_image or bool(teacher.model.statistics)
    fitted = known or min(bits.weights, bits.activations) < MAX_BITS
    kl = _expect_kl(student, bits) if has_classes else None
    steps, possible = _count_steps(
        replace(training, batch_size=sizes.training), student, bits, values=values, kl=kl
    )
    images = synthesis.images
    calibration = min(training.calibration_images, images)
    return RunCounts(
        synthesis=synthesis,
        all_images=all_images,
        cost=cost,
        batch=sizes.training,
        calibration=calibration,
        gptq=min(sizes.gptq, calibration),
        dampings=len(training.gptq_damping) if fitted else 0,
        held_out=min(training.holdout_images, images // HELD_OUT_OF),
        steps=steps,
        possible_steps=possible if fitted else 0,
        layers=tuple(layer for layer in student.layers() if can_refit(layer)),
    )


def _expect_kl(student: Student, bits: BitWidths) -> float:
    """Return how far an untrained classifier is from its teacher, as a rule."""
    if bits.weights == MAX_BITS:
        return 0.0
    depthwise = any(layer.attributes.get("group", 1) > 1 for layer in student.layers())
    return FAR_KL if depthwise else NEAR_KL


def _count_steps(
    config: DistillationConfig,
    student: Student,
    bits: BitWidths,
    *,
    values: int,
    kl: float | None,
) -> tuple[int, int]:
    """Return the steps that are surely taken, and those where eight bits need training."""
    if config.steps is not None:
        return config.steps, config.steps
    work = student.multiply_adds
    if min(bits.weights, bits.activations) == MAX_BITS:
        return 0, default_steps(work, BUDGET_AT_8_BITS, config.batch_size, values=values)
    budget = training_budget(bits, kl=kl)
    if hold_codes(config, bits, kl=kl).optimizer.rounding == "held":
        budget *= BUDGET_WHERE_HELD
    steps = default_steps(work, budget, config.batch_size, values=values)
    return steps, steps


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """The seconds of each stage of a run."""

    synthesize: float
    initialize: float
    distill: float
    possible_distill: float  # where eight bits turn out to need training, for all images as well
    evaluate: float


def time_stages(
    counts: RunCounts, teacher: Teacher, *, labeled: int, context: RunContext
) -> StageSeconds:
    """Return the seconds of the stages, `labeled` images of the user among what is measured.

    The network is passed a few times, and its gradients are computed a few times.
    """
    shape = teacher.inputs.shape
    passes = (measure_pass(teacher.program, shape, context) for _ in range(MEASURED_TIMES))
    once = min(passes)
    rate = math.inf
    if counts.all_images.optimized:
        rate = measure_optimization_rate(teacher.program, shape, context)

    def make_images(plan: SynthesisPlan) -> float:
        checked = min(CHECKED, plan.images) * bool(teacher.model.statistics)
        painted = PAINTED_SECONDS * plan.images * math.prod(shape) + checked * once
        return painted + plan.steps * plan.batch * SHARE / rate

    step = STEP_SECONDS + STEP_PASSES * counts.batch * once
    proof = counts.held_out * PROOF + FIXED_IMAGES * ESTIMATE_PASSES + 2 * labeled
    later = counts.possible_steps > counts.steps and counts.all_images != counts.synthesis
    again = make_images(counts.all_images) if later else 0.0
    return StageSeconds(
        synthesize=make_images(counts.synthesis),
        initialize=_initialize_passes(counts) * once + counts.dampings * _solve_seconds(counts),
        distill=counts.steps * step,
        possible_distill=counts.possible_steps * step + again,
        evaluate=proof * once + LATENCY_SECONDS + PAGES_SECONDS,
    )


def _initialize_passes(counts: RunCounts) -> float:
    """Return how often one image passes the network while ranges are set."""
    agreement = AGREEMENT_PASSES * counts.held_out
    ranges = RANGE_PASSES * counts.calibration + PROBE_PASSES * count_probes(counts.calibration)
    return ranges + agreement + counts.dampings * (GPTQ_PASSES * counts.gptq + agreement)


def _solve_seconds(counts: RunCounts) -> float:
    """Return how long GPTQ solves all layers for one damping, on one core."""
    seconds = 0.0
    for layer in counts.layers:
        m, groups = layer.fan_in, int(layer.attributes.get("group", 1))
        outputs = layer.weight.shape[layer.spec.axis]
        positions = min(MAX_POSITIONS, max(MIN_POSITIONS, 8 * m))
        seconds += PRODUCT * positions * m * (m + 2 * outputs / groups) * groups
        seconds += COPY * positions * m * groups + COLUMN * m
        searched = outputs * m**2
        if layer.spec.grid.limits[1] < MOST_CODE and searched <= WORK:
            seconds += SEARCH * searched + SEARCH_COLUMN * m
    return seconds
