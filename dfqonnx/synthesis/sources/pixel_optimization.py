"""Images optimized through the teacher, batch by batch, starting from procedural ones.

    loss = smooth TV + batchnorm-kl KL(batch || BatchNormalization) + labels KL(labels || teacher)

or what else a recipe's `losses` name. Adam on the normalized pixels, its rate falling along a
cosine, at a step, or on every plateau of the loss. Every step sees a random flip and shift, or
several augmented copies (`augmentation`), and pixels are clamped to the valid range. A recipe may
begin with noise N(0, 1) instead, as most papers do. Without statistics those of the procedural
images stand in; without logits of the form (N, K) there is no class term. Gradients reach the
pixels only. Source: DeepInversion (CVPR 2020) for the loss; the start and the few steps are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dfqonnx.config.synthesis import AUTO, PixelOptimizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.reduced_precision import PROBE_IMAGES, Bfloat16Module, reduce_precision
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.augmentation import augmented_copies
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, surrogate_statistics
from dfqonnx.synthesis.losses.labels import LabelTargets, sample_labels
from dfqonnx.synthesis.losses.objective import ImageLossInputs, Objective, statistics_loss
from dfqonnx.synthesis.sources.procedural import yield_procedural
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

Network = ProgramModule | Bfloat16Module
MILESTONE = 0.8  # of the steps, where the rate falls to a tenth (`lr_schedule: steps`)


@SOURCES.add("optimized")
def optimize_pixels(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield `plan.optimized` optimized images, then procedural ones up to `plan.images`.

    Raises:
        UsageError: the model reads no images.
    """
    if not context.inputs.is_image:
        raise UsageError(
            "synthesis.source: `optimized` makes images, and this model reads none; use --recipe"
            " default"
        )
    plan, inputs, device = context.plan, context.inputs, context.device
    start = torch.cat(list(yield_procedural(context)))  # (N, H, W, C)
    context.run.progress.start("synthesize", max(1, plan.steps))
    statistics = context.statistics or surrogate_statistics(
        context.teacher, start, inputs, batch=plan.batch, context=context.run
    )
    targets = BatchNormTargets(statistics, device)
    exact = ProgramModule(context.teacher, taps=tuple(targets.mean), channels_last=True).to(device)
    net: Network = exact
    if context.config.pixels.precision == AUTO:
        net = reduce_precision(exact, inputs.to_tensor(start[:PROBE_IMAGES].to(device)))
    done = 0
    while done < plan.optimized:
        batch = min(plan.batch, plan.optimized - done)
        images = inputs.from_layout(inputs.to_tensor(start[done : done + batch])).to(device)
        if context.config.pixels.start == "noise":
            images = torch.randn(images.shape, generator=context.generator).to(device)
        steps = plan.batch_steps if done else plan.first_batch_steps
        images = _optimize(images, steps, net, targets, context=context)
        yield inputs.to_pixels(inputs.to_layout(images)).cpu()
        done += batch
    yield start[done:]


def _optimize(
    images: Tensor,
    steps: int,
    net: Network,
    targets: BatchNormTargets,
    *,
    context: SynthesisContext,
) -> Tensor:
    """Return the images (B, C, H, W) after `steps` of Adam."""
    config = context.config.pixels
    limits = [
        torch.from_numpy(values).to(context.device)
        for values in context.inputs.pixel_limits(images.shape[1])
    ]  # two of (1, C, 1, 1)
    images = images.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=config.lr, betas=config.betas)
    set_lr = make_lr_schedule(optimizer, config, steps)
    objective = Objective(context.config.losses)
    targeted: LabelTargets | None = None
    for step in range(steps):
        moved = _jitter(images, context)
        if config.copies > 1:
            moved = augmented_copies(moved, config.copies, context.generator)
        x = context.inputs.to_layout(moved)
        logits, taps = net(x)
        targeted = targeted or sample_labels(len(images), logits, objective, context=context)
        loss, found = objective(
            ImageLossInputs(
                images=images,
                shown=moved,
                logits=logits,
                taps=taps,
                targets=targets,
                labels=_repeated(targeted.labels, config.copies),
                soft=_repeated(targeted.soft, config.copies),
                students=tuple(opponent(x) for opponent in context.opponents),
                generator=context.generator,
                normalized=context.inputs.preprocessing.standardizes,
            )
        )
        (images.grad,) = torch.autograd.grad(loss, images)
        images.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()
        if config.clamp or step == steps - 1:
            with torch.no_grad():
                images.copy_(images.clamp(*limits))
        set_lr(step, loss.item())
        context.run.progress.advance(1, loss=loss.item(), statistics=statistics_loss(found).item())
    return images.detach()


def make_lr_schedule(
    optimizer: torch.optim.Optimizer, config: PixelOptimizationConfig, steps: int
) -> Callable[[int, float], None]:
    """Return what sets the learning rate after a step, given its number and its loss.

    `plateau` divides the rate by ten whenever `patience` steps have not lowered the loss; the other
    schedules are those of `core/lr_schedule`, `steps` with a milestone at `MILESTONE`. None goes
    below `min_lr_ratio` times `lr`.
    """
    if config.lr_schedule == "plateau":
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=config.patience, min_lr=config.lr * config.min_lr_ratio
        )
        return lambda step, loss: plateau.step(loss)

    def set_lr(step: int, loss: float) -> None:
        factor = lr_factor(
            (step + 1) / steps,
            config.lr_schedule,
            milestones=(MILESTONE,),
            min_ratio=config.min_lr_ratio,
        )
        optimizer.param_groups[0]["lr"] = config.lr * factor

    return set_lr


def _repeated(labels: Tensor | None, copies: int) -> Tensor | None:
    """Return the labels (B, ...) of so many copies of a batch, one behind the other."""
    return labels if labels is None or copies == 1 else torch.cat([labels] * copies)


def _jitter(images: Tensor, context: SynthesisContext) -> Tensor:
    """Return the images (B, C, H, W), flipped and shifted as a whole, wrapping around."""
    config, generator = context.config.pixels, context.generator
    most_down, most_across = (round(config.jitter * size) for size in images.shape[2:])
    down = int(torch.randint(-most_down, most_down + 1, (), generator=generator))
    across = int(torch.randint(-most_across, most_across + 1, (), generator=generator))
    flip = config.flip and bool(torch.rand((), generator=generator) < 0.5)
    moved = images.roll((down, across), (2, 3)) if down or across else images
    return moved.flip(3) if flip else moved
