"""The parts of a training: prepare the student, let it and its fellows step, solve the last layers.

With several students (`game.students`) each sees batches of its own, and the one that agrees best
on held-out images is kept. Generators that learn on step between the students' steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.closing import close
from dfqonnx.distill.course import Course
from dfqonnx.distill.feed import feed
from dfqonnx.distill.pool import Pool
from dfqonnx.distill.prepare import prepare
from dfqonnx.distill.schedule import gently, rate_at
from dfqonnx.distill.together import Together, together
from dfqonnx.distill.trainee import Trainee
from dfqonnx.fakequant.expect import Expected
from dfqonnx.fakequant.student import Student
from dfqonnx.progress import Progress
from dfqonnx.spec.distill import DistillSpec
from dfqonnx.synth.live import Live

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
    target: Net
    pool: Pool
    seed: int
    progress: Progress

    def sizes(self, spec: DistillSpec) -> tuple[Together, int]:
        """Return how many images at once, and the numbers that one moves through quantizers."""
        x = self.pool.tensor(self.pool.train[:1])
        numbers = self.student.measure(x)
        found = together(spec, numbers, x.device)
        if found.fewer:
            self.progress.note(f"{found.step} images per step: this network is large")
        return found, numbers

    def prepared(
        self, spec: DistillSpec, images: int, expected: Mapping[str, Expected] | None
    ) -> Agreement:
        """Prepare the student; layers are reconstructed on so many images."""
        return prepare(
            self.student,
            self.teacher,
            self.target,
            self.pool,
            spec=spec,
            reconstructed=images,
            seed=self.seed,
            expected=expected,
            progress=self.progress,
        )

    def trained(self, run: Course, spec: DistillSpec, live: Live | None) -> Agreement:
        """Train the student and its fellows, equal so far, each on batches of its own."""
        spec = gently(spec, self.student.sites.narrowest())
        fellows = [self.student]
        for _ in range(1, 1 if live is None else live.game.students):
            fellow = Student(self.teacher, self.student.sites)
            fellow.load_state(self.student.save_state())
            fellows.append(fellow.to(next(self.student.parameters()).device))
        trainees = [
            Trainee(
                fellow,
                self.target,
                spec,
                batches=feed(
                    self.pool, live, spec, torch.Generator().manual_seed(self.seed + 7919 * index)
                ),
                sample=self.pool.batches(self.pool.train[:SAMPLE], spec.batch),
            )
            for index, fellow in enumerate(fellows)
        ]
        _train(run, trainees, self.pool, spec=spec, live=live, progress=self.progress)
        return _best(trainees, self.target, self.pool, spec.batch)

    def closed(self, spec: DistillSpec) -> Agreement:
        """Solve the last layers anew, on images of the training, where that is better."""
        pool, pixels = self.pool, self.pool.train[:CLOSED]
        return close(
            self.student,
            self.teacher,
            pool.batches(pixels, spec.batch),
            batches=-(-len(pixels) // spec.batch),
            damping=spec.damping,
            agreement=lambda: measure_agreement(
                self.student, self.target, pool.batches(pool.held, spec.batch)
            ),
            seed=self.seed,
        )


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
