"""Distillation: the student learns the teacher's outputs on synthetic images.

    loss = kd KL(teacher || student) T^2 + features blocks' normalized MSE + ... (`objective`)

The teacher labels every augmented batch as it is drawn. Nothing real and no label enters. The
untrained student comes back if training left it worse, by class and by divergence, on held-out
synthetic images.

The parts of a training: prepare the student, let it and its fellows step, solve the last layers.

With several students (`game.students`) each sees batches of its own, and the one that agrees best
on held-out images is kept. Generators that learn on step between the students' steps.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.batch_size import BatchSizes, choose_batch_sizes
from dfqonnx.distill.divergence_guard import DivergenceGuard
from dfqonnx.distill.image_pool import ImagePool, feed
from dfqonnx.distill.initialize import initialize
from dfqonnx.distill.output_layer import refit_output_layer
from dfqonnx.distill.schedule import default_steps, reduce_lr_for_8bit, training_budget
from dfqonnx.distill.state import LogEntry, TrainingState
from dfqonnx.distill.trainer import Trainer
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.generators.training import OnlineGenerators

CHECK_EVERY = 100  # a measurement costs about one step
SAMPLE = 256  # images that tell the means of values
CLOSED = 2048  # images that the last layers are solved on
PATIENCE = 3  # steps in a row that may be lost to a loss that is not finite


@dataclass(frozen=True)
class Lesson:
    """What every part of a training reads.

    Attributes:
        student: trained in place.
        teacher: its float program.
        target: the same as a net, with the values that losses compare.
        pool: images to train on, and held-out ones.
        seed: of the order of batches and of what is drawn.
        progress: told of every step.
    """

    student: Student
    teacher: Program
    target: ProgramModule
    pool: ImagePool
    seed: int
    progress: Progress

    def sizes(self, spec: DistillationConfig) -> tuple[BatchSizes, int]:
        """Return how many images at once, and the numbers that one moves through quantizers."""
        x = self.pool.tensor(self.pool.train[:1])
        numbers = self.student.measure(x)
        found = choose_batch_sizes(spec, numbers, x.device)
        if found.fewer:
            self.progress.note(f"{found.step} images per step: this network is large")
        return found, numbers

    def prepared(
        self,
        spec: DistillationConfig,
        equalization: EqualizationConfig,
        *,
        images: int,
        expected: Mapping[str, ActivationMoments] | None,
    ) -> Agreement:
        """Prepare the student; layers are reconstructed on so many images."""
        return initialize(
            self.student,
            self.teacher,
            self.target,
            self.pool,
            spec=spec,
            equalization=equalization,
            reconstructed=images,
            seed=self.seed,
            expected=expected,
            progress=self.progress,
        )

    def trained(
        self, run: TrainingState, spec: DistillationConfig, live: OnlineGenerators | None
    ) -> Agreement:
        """Train the student and its fellows, equal so far, each on batches of its own."""
        spec = reduce_lr_for_8bit(spec, self.student.sites.narrowest())
        fellows = [self.student]
        for _ in range(1, 1 if live is None else live.co_training.students):
            fellow = Student(self.teacher, self.student.sites)
            fellow.load_state(self.student.save_state())
            fellows.append(fellow.to(next(self.student.parameters()).device))
        trainees = [
            Trainer(
                fellow,
                self.target,
                spec,
                batches=feed(
                    self.pool, live, spec, torch.Generator().manual_seed(self.seed + 7919 * index)
                ),
                sample=self.pool.batches(self.pool.train[:SAMPLE], spec.batch_size),
            )
            for index, fellow in enumerate(fellows)
        ]
        _train(run, trainees, self.pool, spec=spec, live=live, progress=self.progress)
        return _best(trainees, self.target, self.pool, spec.batch_size)

    def closed(self, spec: DistillationConfig) -> Agreement:
        """Solve the last layers anew, on images of the training, where that is better."""
        pool, pixels = self.pool, self.pool.train[:CLOSED]
        return refit_output_layer(
            self.student,
            self.teacher,
            pool.batches(pixels, spec.batch_size),
            batches=-(-len(pixels) // spec.batch_size),
            damping=spec.gptq_damping,
            agreement=lambda: measure_agreement(
                self.student, self.target, pool.batches(pool.held, spec.batch_size)
            ),
            seed=self.seed,
        )


def _train(
    run: TrainingState,
    trainees: list[Trainer],
    pool: ImagePool,
    *,
    spec: DistillationConfig,
    live: OnlineGenerators | None,
    progress: Progress,
) -> None:
    training = time.perf_counter()
    while run.step < run.total:
        done = run.step / run.total
        ahead = done + 1.0 / run.total
        if live is not None and live.is_due(run.step):
            live.co_train(trainees, done=done)
        value = float(np.mean([t.step(done, ahead) for t in trainees]))
        run.step += 1
        if not np.isfinite(value):
            run.lost += 1
            if run.lost >= PATIENCE:
                run.reason = f"the loss was not finite in {PATIENCE} steps in a row"
                progress.warn(f"{run.reason}, at step {run.step}; the untrained student is kept")
                return
            continue
        run.lost = 0
        if run.step % CHECK_EVERY == 0 and len(pool.held):
            held = pool.batches(pool.held, spec.batch_size)
            run.agreement = trainees[0].agreement(held).top1
        rate, width = spec.optimizer.lr_factor(ahead), trainees[0].width
        run.tell(value, rate, width=width, since=training, progress=progress)


def _best(
    trainees: list[Trainer], teacher: ProgramModule, pool: ImagePool, batch: int
) -> Agreement:
    """Give the first student the parameters of the one that agrees best; return how well."""
    for trainee in trainees:
        trainee.settle()
    found = [
        measure_agreement(t.student, teacher, pool.batches(pool.held, batch)) for t in trainees
    ]
    best = 0
    for index, agreement in enumerate(found):
        best = index if agreement.better_than(found[best]) else best
    if best:
        trainees[0].student.load_state(trainees[best].student.save_state())
    return found[best]


@dataclass(frozen=True)
class Distilled:
    """What distillation did; the student itself was trained in place.

    Attributes:
        steps: training steps done.
        seconds: wall clock, initialization included.
        agreement_before: held-out agreement after initialization.
        agreement_after: held-out agreement of the student as it was left.
        kept: whether the trained parameters were kept.
        reason: why they were not, or why training ended early; empty otherwise.
        history: the course of the loss.
        untrained: the parameters before the first step, see `Student.save_state`; none without
            steps.
        seen: images drawn for all steps; fewer a step than asked for where memory is short.
    """

    steps: int
    seconds: float
    agreement_before: Agreement
    agreement_after: Agreement
    kept: bool
    reason: str
    history: tuple[LogEntry, ...]
    untrained: Mapping[str, Tensor] = field(default_factory=dict)
    seen: int = 0


def distill(  # noqa: PLR0913 (one keyword for each thing that decides the outcome)
    teacher: Program,
    student: Student,
    images: NDArray[np.uint8],
    *,
    spec: DistillationConfig,
    equalization: EqualizationConfig,
    inputs: InputFormat,
    context: RunContext,
    kinds: NDArray[np.int64] | None = None,
    expected: Mapping[str, ActivationMoments] | None = None,
    live: OnlineGenerators | None = None,
) -> Distilled:
    """Initialize and train `student` in place.

    Args:
        teacher: the float program; left as it is.
        student: its quantized copy.
        images: synthetic images (N, H, W, C).
        spec: the recipe.
        equalization: what is done to the student before training, without images.
        inputs: how pixels become the model's tensor.
        context: the seed of the split, the order and the augmentation; the device, where the
            student ends; the progress; the seconds that all of it may take.
        kinds: of every image; batches hold equal shares of each kind.
        expected: what values are on the training data, for what `equalization` asks.
        live: generators to draw every batch from, which may learn on; None takes `images`.
    """
    started = time.perf_counter()
    if live is not None and not (live.co_training.student_steps or live.co_training.redraw):
        live = None
    target = (
        ProgramModule(teacher, taps=student.features, channels_last=True).to(context.device).eval()
    )
    student.to(context.device)
    pool = ImagePool(images, inputs, holdout=spec.holdout_images, context=context, kinds=kinds)
    progress, seed = context.progress, context.seed
    lesson = Lesson(student, teacher, target, pool, seed, progress)
    sizes, numbers = lesson.sizes(spec)
    wide, is_open = dataclasses.replace(spec, batch_size=sizes.measured), spec.steps is None
    spec = dataclasses.replace(spec, batch_size=sizes.step)
    before = lesson.prepared(wide, equalization, images=sizes.reconstructed, expected=expected)
    witness = DivergenceGuard(
        student, target, pool, count=spec.guard_images, batch=spec.batch_size, seed=seed
    )
    run = _begun(student, spec, before, numbers, started=started, budget=context.budget_seconds)
    first = student.save_state() if run.total else {}
    progress.start("distill", run.total)
    after, kept = before, False
    if run.total:
        after = lesson.trained(run, spec, live)
        after = lesson.closed(spec) if is_open else after
        kept = _kept(run, before, after, objection=witness.objects(student), progress=progress)
        if not kept:
            student.load_state(first)
    after = after if kept else before
    seconds, history, seen = run.seconds(), tuple(run.history), run.step * spec.batch_size
    return Distilled(run.step, seconds, before, after, kept, run.reason, history, first, seen)


def _begun(
    student: Student,
    spec: DistillationConfig,
    before: Agreement,
    numbers: int,
    *,
    started: float,
    budget: float | None,
) -> TrainingState:
    """Return a run with its number of steps; an image moves `numbers` through quantizers."""
    steps = spec.steps
    if steps is None:
        share = training_budget(student.sites.narrowest(), error=before.error, kl=before.kl)
        steps = default_steps(student.multiply_adds, share, spec.batch_size, numbers=numbers)
    return TrainingState(started, steps, budget if spec.steps != 0 else None)


def _kept(
    run: TrainingState, before: Agreement, after: Agreement, *, objection: bool, progress: Progress
) -> bool:
    """Tell whether the trained parameters are to be kept; `run` gets the reason where not."""
    if run.step and not run.reason:
        if after.worse_than(before):
            run.reason = "training left held-out synthetic images further from the teacher"
        elif objection:
            run.reason = "training left painted images further from the teacher"
        if run.reason:
            progress.warn(run.reason + "; the untrained student is kept")
    return run.step > 0 and not run.reason
