"""Distillation: the student learns the teacher's outputs on synthetic images.

    initialize -> train -> refit the output layer -> keep the trained student, or give it up

The teacher labels every augmented batch as it is drawn; no real image and no label takes part.
Generators that learn on take their steps between those of the student, and several students may
train at once (`co_training`). The untrained student comes back where training left it further from
its teacher on held-out synthetic images, or on procedural ones.

The loop is in `trainer`, and what it changes in `state`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.batch_size import BatchSizes, choose_batch_sizes
from dfqonnx.distill.distilled import Distilled
from dfqonnx.distill.divergence_guard import DivergenceGuard, paint_guard_images
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.initialize import initialize
from dfqonnx.distill.kept_stages import (
    TrainingCheckpoint,
    find_initialized,
    find_trained,
    keep_initialized,
    keep_trained,
)
from dfqonnx.distill.layer_outputs import layer_names, needs_layers
from dfqonnx.distill.losses import is_classification
from dfqonnx.distill.other_kinds import make_other_kinds, needs_other_kinds
from dfqonnx.distill.output_layer import refit_output_layer
from dfqonnx.distill.schedule import (
    choose_dampings,
    choose_optimizer,
    default_steps,
    fits_weights,
    hold_codes,
    knows_inputs,
    reduce_where_held,
    training_budget,
)
from dfqonnx.distill.state import TrainingState
from dfqonnx.distill.trainer import Trainer
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.synthesize import SyntheticImages

UNLIKE_SEED = 1_000_003  # beside that of the run, for other kinds that are not trained on
TRAINING_SHARE = 0.9  # of a budget; then the last layers are solved and the student is measured


@dataclass(frozen=True)
class TrainingPlan:
    """How a student is trained."""

    config: DistillationConfig
    online: OnlineGenerators | None  # that batches are drawn from; None: from the pool
    part: int  # images of a step that pass at once


@dataclass(frozen=True)
class Decision:
    """Whether the trained student is kept."""

    kept: bool
    reason: str = ""  # why it is given up; empty where it is kept, or nothing was trained


def distill(
    network: EqualizedNetwork,
    student: Student,
    images: SyntheticImages,
    *,
    config: DistillationConfig,
    equalization: EqualizationConfig,
    inputs: InputFormat,
    context: RunContext,
    train_up_to: float = math.inf,
) -> Distilled:
    """Initialize and train `student`, a quantized copy of `network`, in place.

    Batches come from the pixels of `images`, or from its generators where these are drawn anew.
    `equalization` says what sets ranges and biases besides the images, `inputs` how pixels become
    values; the seconds of `context` are for all, and its keeper has what needs not be done again. A
    student that is off by more than `train_up_to` (nats, of a classifier) is initialized only.
    """
    started = time.perf_counter()
    student.to(context.device)
    done = find_trained(student, context.keeper) if train_up_to else None
    if done is not None:
        _tell(done.reason, context)
        return done
    teacher = _make_teacher(network, student, config).to(context.device)
    bits = student.plan.narrowest()
    pool = make_pool(
        images,
        inputs,
        holdout=config.holdout_images,
        mixed=needs_other_kinds(images, teacher, inputs, bits, device=context.device),
        context=context,
    )
    one = pool.tensor(pool.train[:1])
    values = student.count_activations(one)
    sizes = choose_batch_sizes(config, values, context)
    known = knows_inputs(images=pool.holds_images, divergence=images.reverse_divergence)
    has_classes = is_classification(teacher(one)[0].detach())
    config = choose_dampings(config, bits, known=known, has_classes=has_classes)
    before, sizes = _initialize_or_find(
        student, network, teacher, pool, config=config, equalization=equalization, sizes=sizes,
        context=context)  # fmt: skip
    config = dataclasses.replace(config, batch_size=sizes.training)
    config, steps = plan_steps(config, student, before, values=values, known=known)
    trains = math.isinf(train_up_to) or (before.kl is not None and before.kl <= train_up_to)
    state = TrainingState(
        total_steps=steps,
        before=before,
        untrained=student.save_state() if steps and trains else {},
        started=started,
        budget_seconds=context.budget_seconds and TRAINING_SHARE * context.budget_seconds,
    )
    if not steps or not trains:
        return _result(state, pool, before, Decision(kept=False), config=config, left_out=steps)
    plan = TrainingPlan(config, generators_in_training(images), sizes.part)
    left, decision = _train(student, teacher, pool, state, plan=plan, context=context)
    result = _result(state, pool, left, decision, config=config)
    keep_trained(student, result, context.keeper)
    return result


def _initialize_or_find(
    student: Student,
    network: EqualizedNetwork,
    teacher: ProgramModule,
    pool: ImagePool,
    *,
    config: DistillationConfig,
    equalization: EqualizationConfig,
    sizes: BatchSizes,
    context: RunContext,
) -> tuple[Agreement, BatchSizes]:
    """Initialize `student`, or set it to what was kept; return its agreement and its sizes."""
    found = find_initialized(student, context.keeper)
    if found is not None:
        return found
    before = initialize(
        student,
        teacher,
        pool,
        config=config,
        equalization=equalization,
        moments=network.moments,
        sizes=sizes,
        context=context,
    )
    before = agree_on_student(student, before, context)
    keep_initialized(student, before, sizes, context.keeper)
    return before, sizes


def _make_teacher(
    network: EqualizedNetwork, student: Student, config: DistillationConfig
) -> ProgramModule:
    """Return the float network with the taps that the recipe's losses compare."""
    taps = dict.fromkeys(student.features)
    if needs_layers(config):
        taps |= dict.fromkeys(layer_names(student))
    return ProgramModule(network.program, taps=tuple(taps), channels_last=True)


def make_pool(
    images: SyntheticImages,
    inputs: InputFormat,
    *,
    holdout: int,
    mixed: bool,
    context: RunContext,
) -> ImagePool:
    """Return the images to train on; where they are `mixed` other kinds join them in training."""
    unlike = None
    if mixed:
        count, size = len(images.pixels), inputs.image_size
        images = images.joined_by(make_other_kinds(count, size, context.seed))  # none held out
        unlike = make_other_kinds(0, size, context.seed + UNLIKE_SEED)
    return ImagePool(
        images.pixels,
        inputs,
        holdout=holdout,
        context=context,
        kinds=images.kinds,
        unlike=unlike,
    )


def plan_steps(
    config: DistillationConfig, student: Student, before: Agreement, *, values: int, known: bool
) -> tuple[DistillationConfig, int]:
    """Return the recipe with its rounding and its rates, and its number of steps."""
    bits = student.plan.narrowest()
    steps = choose_steps(config, student, before, values=values, known=known)
    images = steps * config.batch_size
    held = hold_codes(config, bits, kl=before.kl, images=images)
    if held is not config:
        steps = choose_steps(held, student, before, values=values, known=known)
    return choose_optimizer(held, bits, kl=before.kl), steps


def choose_steps(
    config: DistillationConfig, student: Student, before: Agreement, *, values: int, known: bool
) -> int:
    """Return the recipe's number of steps, else that of the network, its bits and its agreement.

    `known` tells of its inputs what `schedule.knows_inputs` does.
    """
    if config.steps is not None:
        return config.steps
    if not fits_weights(student.plan.narrowest(), known=known):
        return 0
    budget = training_budget(
        student.plan.narrowest(),
        error=before.error,
        kl=before.kl,
        needs_training_kl=config.needs_training_kl,
    )
    budget *= config.budget_scale
    budget = reduce_where_held(budget, config, has_classes=before.kl is not None)
    return default_steps(student.multiply_adds, budget, config.batch_size, values=values)


def generators_in_training(images: SyntheticImages) -> OnlineGenerators | None:
    """Return the generators that batches are drawn from; None where the images are the pool."""
    online = images.generators
    if online is None:
        return None
    draws_anew = online.co_training.student_steps > 0 or online.co_training.redraw
    return online if draws_anew else None


def _train(
    student: Student,
    teacher: ProgramModule,
    pool: ImagePool,
    state: TrainingState,
    *,
    plan: TrainingPlan,
    context: RunContext,
) -> tuple[Agreement, Decision]:
    """Train, and give it up where it did harm; return the held-out agreement that is left."""
    config = plan.config
    size = config.batch_size
    painted = paint_guard_images(pool, config.guard_images, context.seed)
    guards = [
        DivergenceGuard(student, teacher, pool, images=images, batch_size=size)
        for images in (pool.held_out, painted)
    ]
    trainer = Trainer(
        student,
        teacher,
        pool,
        config=config,
        online=plan.online,
        part=plan.part,
        context=context,
    )
    checkpoint = TrainingCheckpoint(trainer, state, context.keeper)
    checkpoint.restore()
    after = trainer.train(state, after_step=checkpoint.save_if_due)
    if config.steps is None:
        after = refit_output_layer(student, teacher, pool, config=config, seed=context.seed)
    after = agree_on_student(student, after, context)
    held_out, painted_ones = context.ranks.agree([guard.rejects(student) for guard in guards])
    decision = decide(state, after, on_held_out=held_out, on_painted=painted_ones)
    if decision.kept:
        return after, decision
    _tell(decision.reason, context)
    student.load_state(state.untrained)
    return state.before, decision


def _tell(reason: str, context: RunContext) -> None:
    """Warn of a training that was given up for a reason; empty where none was."""
    if reason:
        context.progress.warn(f"{reason}; the untrained student is kept")


def agree_on_student(student: Student, agreement: Agreement, context: RunContext) -> Agreement:
    """Give every rank the student of rank 0; return its agreement."""
    if context.ranks.count > 1:
        own = {name: value.cpu() for name, value in student.save_state().items()}
        student.load_state(context.ranks.agree(own))
    return context.ranks.agree(agreement)


def decide(
    state: TrainingState, after: Agreement, *, on_held_out: bool, on_painted: bool
) -> Decision:
    """Return whether the trained student is kept; two checks may have rejected it.

    On held-out images the divergence has to be worse by more than its noise, and by a tenth or with
    fewer equal classes (`Agreement.worse_than`).
    """
    reason = state.stop_reason
    if not reason and on_held_out and after.worse_than(state.before):
        reason = "training moved the student away from its teacher on held-out synthetic images"
    if not reason and on_painted:
        reason = "training moved the student away from its teacher on procedural images"
    return Decision(kept=not reason, reason=reason)


def _result(
    state: TrainingState,
    pool: ImagePool,
    left: Agreement,
    decision: Decision,
    *,
    config: DistillationConfig,
    left_out: int = 0,
) -> Distilled:
    return Distilled(
        steps=state.step,
        seconds=state.seconds,
        agreement_before=state.before,
        agreement_after=left,
        kept=decision.kept,
        reason=decision.reason,
        history=tuple(state.history),
        untrained=state.untrained,
        images_seen=state.step * config.batch_size,
        held_out=pool.held_out_indices,
        left_out=left_out,
    )
