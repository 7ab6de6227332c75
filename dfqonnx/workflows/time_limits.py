"""How a budget is shared among the stages of a run, so that it holds for all of it.

Training takes what the others leave. What they take grows with the number of images that they pass
through the network, and one pass is measured before:

    seconds of a stage = images of it * passes of an image * seconds of a pass

With passes as counted on ResNet-20 and MobileNetV1: setting ranges and GPTQ 10 on a calibration
image, the proof 20 on a held-out one (both files as they are and optimized, and every quantizer
fed equal codes), the estimate of the drop 2 on each of its fixed images. Each may take a share of
the budget; where it would take more it gets fewer images, and the estimate is left out.

What the user asks for beside the run (labeled images) is measured whole, however long it takes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dfqonnx.config.recipe import Recipe
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.stage_keeper import LIMITS, Entry, StageKeeper
from dfqonnx.evaluation.drop_estimate.estimate import (
    Estimates,
    Pixels,
    estimate_losses,
    explain_no_estimates,
)
from dfqonnx.workflows.teacher import Teacher

CALIBRATION, PROOF, ESTIMATE = 0.15, 0.15, 0.1  # shares of the budget, and the passes of an image:
CALIBRATION_PASSES, PROOF_PASSES, ESTIMATE_PASSES = 10, 20, 2
FIXED_IMAGES = 512  # of the estimated drop
HELD_OUT_OF = 8  # images, one is held out at most
FEWEST = 16  # images of any stage
LATENCY_SECONDS, LATENCY_SHARE = 2.0, 0.05
REPORT_SECONDS, REPORT_SHARE = 4.0, 0.2  # the pages, and what is exported
_SECONDS = ("pass_seconds", "report_seconds", "latency_seconds")
LEAST_LEFT = 0.1  # of a budget, for a run that goes on
ON_CPU = RunContext()


class Stopwatch:
    """The seconds of a run; without a budget there is no end to them."""

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self._started = time.perf_counter()

    def after(self, spent: float) -> Stopwatch:
        """Return a watch that counts what was `spent` before, but for a tenth of the budget."""
        found = Stopwatch(self.budget)
        found._started = self._started - min(spent, (self.budget or 0.0) * (1 - LEAST_LEFT))
        return found

    def left(self) -> float | None:
        """Return the seconds that are left; None without a budget."""
        if self.budget is None:
            return None
        return self.budget - (time.perf_counter() - self._started)

    def first_of(self, parts: int) -> Stopwatch:
        """Return a watch, begun now, of an equal part of the seconds that are left."""
        left = self.left()
        return self if parts == 1 else Stopwatch(None if left is None else left / parts)


@dataclass(frozen=True, kw_only=True)
class TimeLimits:
    """What fits into a budget; without one, what the recipe says."""

    recipe: Recipe  # with as many images as there is time for
    pass_seconds: float = 0.0  # of one image through the float network; 0 without a budget
    report_seconds: float = 0.0  # to keep for the pages
    latency_seconds: float = LATENCY_SECONDS
    has_estimates: bool = True

    def proof_images(self, count: int, left: float | None) -> int:
        """Return for how many of `count` held-out images there is time in `left` seconds."""
        if left is None or not self.pass_seconds:
            return count
        rest = left - self.latency_seconds - self._estimate_seconds() - REPORT_SHARE * left
        return min(count, max(FEWEST, int(rest / (PROOF_PASSES * self.pass_seconds))))

    def proof_seconds(self, images: int) -> float:
        """Return the seconds to keep for everything behind training on so many images."""
        held_out = min(self.recipe.distillation.holdout_images, images // HELD_OUT_OF)
        proof = held_out * PROOF_PASSES * self.pass_seconds + self._estimate_seconds()
        return proof + self.latency_seconds + self.report_seconds

    def estimate_losses(
        self, teacher: Path, student: Path, *, inputs: InputFormat, real: Pixels | None
    ) -> Estimates:
        """Return the estimated drop and agreement of a file, or that there is no time for them."""
        if not self.has_estimates:
            return explain_no_estimates("the budget leaves no time for it")
        return estimate_losses(teacher, student, inputs=inputs, real=real)

    def _estimate_seconds(self) -> float:
        return self.has_estimates * FIXED_IMAGES * ESTIMATE_PASSES * self.pass_seconds


def find_or_fit(
    recipe: Recipe, teacher: Teacher, left: float | None, keeper: StageKeeper
) -> TimeLimits:
    """Return the limits that an interrupted run had, else those that fit into `left` seconds."""

    def build(entry: Entry) -> TimeLimits:
        facts = entry.facts
        distillation = dataclasses.replace(
            recipe.distillation,
            calibration_images=int(facts["calibration_images"]),
            holdout_images=int(facts["holdout_images"]),
        )
        return TimeLimits(
            recipe=dataclasses.replace(recipe, distillation=distillation),
            has_estimates=bool(facts["has_estimates"]),
            **{name: float(facts[name]) for name in _SECONDS},
        )

    if left is None:
        return fit_to_budget(recipe, teacher, left)
    found = keeper.find(LIMITS, build)
    if found is not None:
        return found
    limits = fit_to_budget(recipe, teacher, left)
    facts = {name: getattr(limits, name) for name in (*_SECONDS, "has_estimates")}
    chosen = limits.recipe.distillation
    facts["calibration_images"] = chosen.calibration_images
    facts["holdout_images"] = chosen.holdout_images
    keeper.keep(LIMITS, Entry(facts=facts))
    return limits


def fit_to_budget(recipe: Recipe, teacher: Teacher, left: float | None) -> TimeLimits:
    """Return what there is time for in `left` seconds; None leaves everything as it is."""
    if left is None:
        return TimeLimits(recipe=recipe)
    once = measure_pass(teacher.program, teacher.inputs.shape)
    config = recipe.distillation

    def affordable(share: float, passes: int) -> int:
        return max(FEWEST, int(share * left / (passes * once)))

    calibration = min(config.calibration_images, affordable(CALIBRATION, CALIBRATION_PASSES))
    held_out = min(config.holdout_images, affordable(PROOF, PROOF_PASSES))
    distillation = dataclasses.replace(
        config, calibration_images=calibration, holdout_images=held_out
    )
    latency = min(LATENCY_SECONDS, LATENCY_SHARE * left)
    return TimeLimits(
        recipe=dataclasses.replace(recipe, distillation=distillation),
        pass_seconds=once,
        latency_seconds=latency,
        report_seconds=min(REPORT_SECONDS, REPORT_SHARE * left),
        has_estimates=FIXED_IMAGES * ESTIMATE_PASSES * once <= ESTIMATE * left,
    )


@torch.no_grad()
def measure_pass(
    teacher: Program,
    shape: tuple[int, ...],
    context: RunContext = ON_CPU,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds that one image takes through the float network, after a warm-up."""
    net, device = ProgramModule(teacher).to(context.device), context.device
    net(torch.zeros(1, *shape, device=device))
    count, seconds = 1, 0.0
    while seconds < 0.1 and count < 64:
        count *= 2
        images = torch.zeros(count, *shape, device=device)
        started = clock()
        net(images)[0].sum().item()  # waits for the device
        seconds = clock() - started
    return max(seconds / count, 1e-6)
