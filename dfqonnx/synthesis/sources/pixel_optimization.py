"""Images optimized through the teacher, batch by batch, starting from dead leaves.

    loss = smooth TV + batchnorm-kl KL(batch || BatchNormalization) + labels KL(labels || teacher)

or what else a recipe's `losses` name. Adam on the normalized pixels, its rate falling along a
cosine, or whenever the loss stops falling; every step sees a random flip and shift, and pixels are
clamped to the valid range. A recipe may begin with noise N(0, 1) instead, as most papers do.
Without statistics those of dead leaves stand in; without logits of the form (N, K) there is no
class term. Gradients reach the pixels only. Source: DeepInversion (CVPR 2020) for the loss; the
start and the few steps are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.config.synthesis import PixelOptimizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, surrogate_statistics
from dfqonnx.synthesis.losses.labels import balanced_labels, soft_labels
from dfqonnx.synthesis.losses.objective import ImageLossInputs, Objective, distance
from dfqonnx.synthesis.sources.noise import paint
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext


@SOURCES.add("optimized")
def optimize_pixels(studio: SynthesisContext) -> Iterator[Tensor]:
    """Yield `plan.optimized` optimized images, then procedural ones up to `plan.images`."""
    plan = studio.plan
    start = torch.cat(list(paint(studio)))  # (N, H, W, C)
    studio.run.progress.start("synthesize", max(1, plan.steps))
    statistics = studio.statistics or surrogate_statistics(
        studio.teacher, start, studio.inputs, batch=plan.batch, device=studio.device
    )
    targets = BatchNormTargets(statistics, studio.device)
    net = ProgramModule(studio.teacher, taps=tuple(targets.mean), channels_last=True).to(
        studio.device
    )
    done = 0
    while done < plan.optimized:
        batch = min(plan.batch, plan.optimized - done)
        canvas = _canvas(studio.inputs.to_tensor(start[done : done + batch]), studio)
        if studio.spec.pixels.start == "noise":
            canvas = torch.randn(canvas.shape, generator=studio.generator).to(studio.device)
        steps = plan.following if done else plan.first
        canvas = _improve(canvas, steps, net, targets, studio=studio)
        yield studio.inputs.to_pixels(_to_layout(canvas, studio)).cpu()
        done += batch
    yield start[done:]


def _improve(
    canvas: Tensor,
    steps: int,
    net: ProgramModule,
    targets: BatchNormTargets,
    *,
    studio: SynthesisContext,
) -> Tensor:
    """Return the canvas (B, C, H, W) after `steps` of Adam."""
    pixels = studio.spec.pixels
    limit = [
        torch.from_numpy(values).to(studio.device)
        for values in studio.inputs.pixel_limits(canvas.shape[1])
    ]  # two of (1, C, 1, 1)
    canvas = canvas.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([canvas], lr=pixels.lr, betas=pixels.betas)
    fall = falling(optimizer, pixels, steps)
    objective = Objective(studio.spec.losses)
    wishes: LabelTargets | None = None
    for step in range(steps):
        moved = _to_layout(_jitter(canvas, studio), studio)
        logits, taps = net(moved)
        wishes = wishes or sample_labels(len(canvas), logits, objective, studio=studio)
        seen = ImageLossInputs(
            canvas,
            logits,
            taps,
            targets,
            labels=wishes.labels,
            soft=wishes.soft,
            students=tuple(opponent(moved) for opponent in studio.opponents),
            generator=studio.generator,
        )
        loss, found = objective(seen)
        (canvas.grad,) = torch.autograd.grad(loss, canvas)
        canvas.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()
        if pixels.clamp or step == steps - 1:
            with torch.no_grad():
                canvas.copy_(canvas.clamp(*limit))
        fall(step, loss.item())
        studio.run.progress.advance(1, loss=loss.item(), statistics=distance(found).item())
    return canvas.detach()


@dataclass(frozen=True)
class LabelTargets:
    """What a batch is asked to be; None where no loss asks.

    Attributes:
        labels: (B,) classes.
        soft: (B, K) distributions.
    """

    labels: Tensor | None = None
    soft: Tensor | None = None


def sample_labels(
    count: int, logits: Tensor, objective: Objective, *, studio: SynthesisContext
) -> LabelTargets:
    """Draw what `count` images are asked to be; nothing where the teacher knows no classes."""
    if logits.dim() != 2 or logits.shape[1] < 2:
        return LabelTargets()
    classes, generator = logits.shape[1], studio.generator
    labels = soft = None
    if objective.needs("soft"):
        boundary = studio.spec.two_class_fraction
        soft = soft_labels(count, classes, boundary=boundary, generator=generator)
        soft = soft.to(studio.device)
    if objective.needs("labels"):
        labels = balanced_labels(count, classes, generator).to(studio.device)
    return LabelTargets(labels, soft)


def falling(
    optimizer: torch.optim.Optimizer, pixels: PixelOptimizationConfig, steps: int
) -> Callable[[int, float], None]:
    """Return what sets the rate after a step, given its number and its loss; sets the first one.

    Along a cosine from `rate` to `last` times `rate`; or a tenth of what it was whenever `patience`
    steps have not lowered the loss, never below `last` times `rate`; or not at all.
    """
    if pixels.lr_schedule == "plateau":
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=pixels.patience, min_lr=pixels.lr * pixels.min_lr_ratio
        )
        return lambda step, loss: plateau.step(loss)

    def along(step: int, loss: float) -> None:
        fall = 0.5 * (1 + math.cos(math.pi * (step + 1) / steps))
        rate = pixels.lr * (pixels.min_lr_ratio + (1 - pixels.min_lr_ratio) * fall)
        optimizer.param_groups[0]["lr"] = rate

    return (lambda step, loss: None) if pixels.lr_schedule == "constant" else along


def _jitter(canvas: Tensor, studio: SynthesisContext) -> Tensor:
    """Return the canvas, flipped and shifted as a whole, wrapping around."""
    most_down = round(studio.spec.pixels.jitter * canvas.shape[2])
    most_across = round(studio.spec.pixels.jitter * canvas.shape[3])
    down = int(torch.randint(-most_down, most_down + 1, (), generator=studio.generator))
    across = int(torch.randint(-most_across, most_across + 1, (), generator=studio.generator))
    flip = studio.spec.pixels.flip and bool(torch.rand((), generator=studio.generator) < 0.5)
    moved = canvas.roll((down, across), (2, 3)) if down or across else canvas
    return moved.flip(3) if flip else moved


def _canvas(tensor: Tensor, studio: SynthesisContext) -> Tensor:
    """Return a model input as (N, C, H, W) on the device."""
    tensor = tensor.permute(0, 3, 1, 2) if studio.inputs.preprocessing.layout == "NHWC" else tensor
    return tensor.to(studio.device)


def _to_layout(canvas: Tensor, studio: SynthesisContext) -> Tensor:
    """Return a canvas (N, C, H, W) as the model reads it."""
    return canvas.permute(0, 2, 3, 1) if studio.inputs.preprocessing.layout == "NHWC" else canvas
