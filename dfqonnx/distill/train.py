"""Distillation: the student learns the teacher's outputs on synthetic images.

    loss = kd KL(teacher || student) T^2 + features blocks' normalised MSE + ... (`objective`)

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
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.course import Course, Moment
from dfqonnx.distill.lesson import Lesson
from dfqonnx.distill.pool import Pool
from dfqonnx.distill.schedule import default_steps, effort
from dfqonnx.distill.witness import Witness
from dfqonnx.fakequant.expect import Expected
from dfqonnx.fakequant.student import Student
from dfqonnx.progress import Progress
from dfqonnx.spec.distill import DistillSpec
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.synth.live import Live


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
    lesson = Lesson(student, teacher, target, pool, seed, progress)
    sizes, numbers = lesson.sizes(spec)
    wide, is_open = dataclasses.replace(spec, batch=sizes.measured), spec.steps is None
    spec = dataclasses.replace(spec, batch=sizes.step)
    before = lesson.prepared(wide, sizes.reconstructed, expected)
    witness = Witness(student, target, pool, count=spec.witness, batch=spec.batch, seed=seed)
    run = _begun(student, spec, before, numbers, started=started, budget=budget_seconds)
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
        share = effort(student.sites.narrowest(), error=before.error, kl=before.kl)
        steps = default_steps(student.multiply_adds, share, spec.batch, numbers=numbers)
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
