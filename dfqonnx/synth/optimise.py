"""Images optimised through the teacher, batch by batch, starting from dead leaves.

    loss = smooth TV + batchnorm-kl KL(batch || BatchNormalization) + labels KL(labels || teacher)

or what else a recipe's `losses` name. Adam on the normalised pixels, its rate falling along a
cosine; every step sees a random flip and shift, and pixels are clamped to the valid range. Without
statistics those of dead leaves stand in; without logits of the form (N, K) there is no class term.
Gradients reach the pixels only. Source: DeepInversion (CVPR 2020) for the loss; the start and the
few steps are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.synth.leaves import leaves
from dfqonnx.synth.objective import Objective, Seen, distance
from dfqonnx.synth.objectives import soft_labels
from dfqonnx.synth.pixels import limits, to_pixels, to_tensor
from dfqonnx.synth.pseudo import pseudo_statistics
from dfqonnx.synth.source import SOURCES, Studio
from dfqonnx.synth.statistics import Targets


@SOURCES.add("optimised")
def optimise(studio: Studio) -> Iterator[Tensor]:
    """Yield `plan.optimised` optimised images, then procedural ones up to `plan.images`."""
    plan = studio.plan
    start = _starts(studio)
    statistics = studio.statistics or pseudo_statistics(
        studio.teacher, start, studio.inputs, batch=plan.batch, device=studio.device
    )
    targets = Targets(statistics, studio.device)
    net = Net(studio.teacher, taps=tuple(targets.mean), channels_last=True).to(studio.device)
    done = 0
    while done < plan.optimised:
        batch = min(plan.batch, plan.optimised - done)
        canvas = _canvas(to_tensor(start[done : done + batch], studio.inputs), studio)
        steps = plan.following if done else plan.first
        canvas = _improve(canvas, steps, net, targets, studio=studio)
        yield to_pixels(_fed(canvas, studio), studio.inputs).cpu()
        done += batch
    yield start[done:]


def _starts(studio: Studio) -> Tensor:
    """Return every image before optimisation, (N, H, W, C)."""
    height, width, channels = studio.size
    chunks = leaves(
        studio.plan.images,
        height=height,
        width=width,
        channels=channels,
        generator=studio.generator,
    )
    return torch.cat(list(chunks))


def _improve(
    canvas: Tensor,
    steps: int,
    net: Net,
    targets: Targets,
    *,
    studio: Studio,
) -> Tensor:
    """Return the canvas (B, C, H, W) after `steps` of Adam."""
    spec, pixels, generator = studio.spec, studio.spec.pixels, studio.generator
    limit = limits(studio.inputs, canvas.shape[1], studio.device)
    canvas = canvas.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([canvas], lr=pixels.rate, betas=pixels.betas)
    objective = Objective(spec.losses)
    soft: Tensor | None = None
    for step in range(steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = pixels.rate * (pixels.last + (1 - pixels.last) * fall)
        logits, taps = net(_fed(_jitter(canvas, studio), studio))
        if soft is None and objective.needs("soft") and logits.dim() == 2 and logits.shape[1] > 1:
            soft = soft_labels(
                len(canvas), logits.shape[1], boundary=spec.boundary, generator=generator
            ).to(studio.device)
        loss, found = objective(Seen(canvas, logits, taps, targets, soft=soft))
        (canvas.grad,) = torch.autograd.grad(loss, canvas)
        canvas.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimiser.step()
        with torch.no_grad():
            canvas.copy_(canvas.clamp(*limit))
        studio.progress.advance(1, loss=loss.item(), statistics=distance(found).item())
    return canvas.detach()


def _jitter(canvas: Tensor, studio: Studio) -> Tensor:
    """Return the canvas, flipped and shifted as a whole, wrapping around."""
    most_down = round(studio.spec.pixels.jitter * canvas.shape[2])
    most_across = round(studio.spec.pixels.jitter * canvas.shape[3])
    down = int(torch.randint(-most_down, most_down + 1, (), generator=studio.generator))
    across = int(torch.randint(-most_across, most_across + 1, (), generator=studio.generator))
    flip = bool(torch.rand((), generator=studio.generator) < 0.5)
    moved = canvas.roll((down, across), (2, 3)) if down or across else canvas
    return moved.flip(3) if flip else moved


def _canvas(tensor: Tensor, studio: Studio) -> Tensor:
    """Return a model input as (N, C, H, W) on the device."""
    tensor = tensor.permute(0, 3, 1, 2) if studio.inputs.layout == "NHWC" else tensor
    return tensor.to(studio.device)


def _fed(canvas: Tensor, studio: Studio) -> Tensor:
    """Return a canvas (N, C, H, W) as the model reads it."""
    return canvas.permute(0, 2, 3, 1) if studio.inputs.layout == "NHWC" else canvas
