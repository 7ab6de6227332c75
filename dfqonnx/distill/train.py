"""Distillation: the student learns the teacher's outputs on synthetic images.

    loss = kd KL(teacher || student) T^2 + features blocks' normalised MSE + ... (`objective`)

With several students (`game.students`) each sees batches of its own, and the one that agrees best
on held-out images is kept. Generators that learn on step between the students' steps.

The teacher labels every augmented batch as it is drawn. Nothing real and no label enters. The
untrained student comes back if training left it worse, by class and by divergence, on held-out
synthetic images.
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

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.closing import close
from dfqonnx.distill.course import Course, Moment
from dfqonnx.distill.feed import feed
from dfqonnx.distill.pool import Pool
from dfqonnx.distill.prepare import prepare
from dfqonnx.distill.schedule import (
    LOOKED,
    OPEN_BATCH,
    OPEN_MEMORY,
    default_steps,
    fitting_batch,
    gently,
    is_needy,
    rate_at,
    room,
)
from dfqonnx.distill.trainee import Trainee
from dfqonnx.distill.witness import Witness
from dfqonnx.fakequant.expect import Expected
from dfqonnx.fakequant.student import Student
from dfqonnx.progress import Progress
from dfqonnx.spec.distill import DistillSpec
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.quant import Bits
from dfqonnx.synth.live import Live

CHECK_EVERY = 100  # a measurement costs about one step
SAMPLE = 256  # images that tell the means of values
CLOSED = 2048  # images that the last layers are solved on
PATIENCE = 3  # steps in a row that may be lost to a loss that is not finite


@dataclass(frozen=True)
class Distilled:
    """What distillation did; the student itself was trained in place.

    Attributes:
        steps: training steps done.
        seconds: wall clock, initialisation included.
        agreement_before: held-out agreement after initialisation.
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
    history: tuple[Moment, ...]
    untrained: Mapping[str, Tensor] = field(default_factory=dict)
    seen: int = 0


def distill(  # noqa: PLR0913 (one keyword for each thing that decides the outcome)
    teacher: Program,
    student: Student,
    images: NDArray[np.uint8],
    *,
    spec: DistillSpec,
    inputs: InputSpec,
    seed: int,
    progress: Progress,
    device: str = "cpu",
    budget_seconds: float | None = None,
    input_shape: tuple[int, ...] | None = None,
    kinds: NDArray[np.int64] | None = None,
    expected: Mapping[str, Expected] | None = None,
    live: Live | None = None,
) -> Distilled:
    """Initialise and train `student` in place.

    Args:
        teacher: the float program; left as it is.
        student: its quantized copy.
        images: synthetic images (N, H, W, C).
        spec: the recipe.
        inputs: how pixels become the model's tensor.
        seed: of the split, the order and the augmentation.
        progress: told of every step.
        device: where to train; the student ends there.
        budget_seconds: wall clock for all of it; None lets `spec` and the network decide.
        input_shape: of the model's input without the batch; needed when it is no image.
        kinds: of every image; batches hold equal shares of each kind.
        expected: what values are on the training data, for what `spec.prepare` asks.
        live: generators to draw every batch from, which may learn on; None takes `images`.
    """
    started = time.perf_counter()
    if live is not None and not (live.game.student_steps or live.game.fresh):
        live = None
    target = Net(teacher, taps=student.features, channels_last=True).to(device).eval()
    student.to(device)
    held, shape = spec.holdout, input_shape
    pool = Pool(images, inputs, holdout=held, seed=seed, device=device, shape=shape, kinds=kinds)
    is_open = spec.steps is None
    x = pool.tensor(pool.train[:1])
    numbers, memory = student.measure(x), room(x.device)
    together = fitting_batch(2 * spec.batch, numbers, memory=memory, each=LOOKED)
    wide = dataclasses.replace(spec, batch=fitting_batch(spec.batch, numbers, memory=memory))
    spec = _fitted(spec, numbers, memory, progress)
    before = prepare(
        student,
        teacher,
        target,
        pool,
        spec=wide,
        together=together,
        seed=seed,
        expected=expected,
        progress=progress,
    )
    witness = Witness(student, target, pool, count=spec.witness, batch=spec.batch, seed=seed)
    run = _begun(student, spec, before, numbers, started=started, budget=budget_seconds)
    first = student.save_state() if run.total else {}
    progress.start("distill", run.total)
    after, kept = before, False
    if run.total:
        spec = gently(spec, trained_bits(student))
        trainees = _classmates(student, teacher, target, pool, spec=spec, seed=seed, live=live)
        _train(run, trainees, pool, spec=spec, live=live, progress=progress)
        after = _best(trainees, target, pool, spec.batch)
        if is_open:
            after = _closed(student, teacher, target, pool, spec=spec, seed=seed)
        kept = _kept(run, before, after, objection=witness.objects(student), progress=progress)
        if not kept:
            student.load_state(first)
    after = after if kept else before
    seconds, history, seen = run.seconds(), tuple(run.history), run.step * spec.batch
    return Distilled(run.step, seconds, before, after, kept, run.reason, history, first, seen)


def _begun(
    student: Student,
    spec: DistillSpec,
    before: Agreement,
    numbers: int,
    *,
    started: float,
    budget: float | None,
) -> Course:
    """Return a run with its number of steps; an image moves `numbers` through quantizers."""
    steps = spec.steps
    if steps is None:
        needy = is_needy(before.error, before.kl)
        bits = trained_bits(student)
        macs = student.multiply_adds
        steps = default_steps(macs, bits, spec.batch, numbers=numbers, needy=needy)
    return Course(started, steps, budget if spec.steps != 0 else None)


def _kept(
    run: Course, before: Agreement, after: Agreement, *, objection: bool, progress: Progress
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


def _fitted(spec: DistillSpec, numbers: int, memory: int, progress: Progress) -> DistillSpec:
    """Return `spec` with a batch that memory holds; an image moves `numbers` through quantizers."""
    asked = spec.batch if spec.steps is not None else min(spec.batch, OPEN_BATCH)
    room = memory if spec.steps is not None else OPEN_MEMORY
    batch = fitting_batch(asked, numbers, memory=room)
    if batch < asked:
        progress.note(f"{batch} images per step instead of {asked}: this network is large")
    return dataclasses.replace(spec, batch=batch)


def _closed(
    student: Student,
    teacher: Program,
    target: Net,
    pool: Pool,
    *,
    spec: DistillSpec,
    seed: int,
) -> Agreement:
    """Solve the last layers of a trained student anew, on its images, where that is better."""
    pixels = pool.train[:CLOSED]
    return close(
        student,
        teacher,
        pool.batches(pixels, spec.batch),
        batches=-(-len(pixels) // spec.batch),
        damping=spec.damping,
        agreement=lambda: measure_agreement(student, target, pool.batches(pool.held, spec.batch)),
        seed=seed,
    )


def trained_bits(student: Student) -> Bits:
    """Return the narrowest weights and node inputs of a student."""
    weights = [site.grid.bits for site in student.sites.weights]
    read = {site.input for site in student.sites.weights}
    activations = [s.grid.bits for s in student.sites.activations if s.name in read]
    return Bits(min(weights, default=8), min(activations, default=8))


def _classmates(
    student: Student,
    teacher: Program,
    target: Net,
    pool: Pool,
    *,
    spec: DistillSpec,
    seed: int,
    live: Live | None,
) -> list[Trainee]:
    """Return `student` and its fellows, equal so far, each with batches of its own."""
    fellows = [student]
    for _ in range(1, 1 if live is None else live.game.students):
        fellow = Student(teacher, student.sites)
        fellow.load_state(student.save_state())
        fellows.append(fellow.to(next(student.parameters()).device))
    return [
        Trainee(
            fellow,
            target,
            spec,
            batches=feed(pool, live, spec, torch.Generator().manual_seed(seed + 7919 * index)),
            sample=pool.batches(pool.train[:SAMPLE], spec.batch),
        )
        for index, fellow in enumerate(fellows)
    ]


def _train(
    run: Course,
    trainees: list[Trainee],
    pool: Pool,
    *,
    spec: DistillSpec,
    live: Live | None,
    progress: Progress,
) -> None:
    training = time.perf_counter()
    while run.step < run.total:
        done = run.step / run.total
        ahead = done + 1.0 / run.total
        if live is not None and live.due(run.step):
            live.play(trainees, done=done)
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
            held = pool.batches(pool.held, spec.batch)
            run.agreement = trainees[0].agreement(held).top1
        rate, width = rate_at(ahead, spec.optimiser), trainees[0].width
        run.tell(value, rate, width=width, since=training, progress=progress)


def _best(trainees: list[Trainee], teacher: Net, pool: Pool, batch: int) -> Agreement:
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
