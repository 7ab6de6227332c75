"""Inputs that show how far activations can reach: unlike the images of a run, or sought.

Ranges are chosen on synthetic inputs, and real ones may drive a layer further. What a layer can see
is probed with

    noise     white, its four deviations spanning the valid range
    fields    structured values (`data/structured_fields`), of every channel its own; where the
              model reads no images they are what real inputs resemble most, so there are `FIELDS`
              of them however few images a run takes
    leaves    dead leaves, where the model reads images
    sought    the run's own inputs, moved until one tensor of each reaches far

A sought input climbs log |s v|_8, v a tensor or an output and s a random sign that cuts off what is
below 0; the 8-norm is a smooth maximum. Steps are normalized gradients, smoothed by 1 / f, and end
at the valid range, so that what comes out is as smooth as signals are and no adversarial noise,
which reaches further than anything measured does. How far probes count for a range is in
`fakequant/observed_values`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat, round_to_pixels
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

MOST, LEAST = 32, 2  # probes of each kind
FIELDS = 32  # fields, at least, for inputs that are no images
SHARE = 16  # of the images of a run there are that many for each probe
STEPS = 4  # that an input is moved by
STEP = 0.02  # root mean square of each, over the valid range
ORDER = 8  # of the norm


def count_probes(images: int) -> int:
    """Return how many probes of each kind a run of so many images takes."""
    return max(LEAST, min(MOST, images // SHARE))


def make_range_probes(
    program: Program,
    inputs: InputFormat,
    own: Tensor,
    *,
    names: Sequence[str],
    batch: int,
    seed: int,
) -> Iterator[Tensor]:
    """Yield batches of model inputs (B, *shape).

    `own` are images of the run, uint8 (N, H, W, C), which sought inputs start from; one is sought
    for each of the values `names` and of the outputs in turn, the last of them first.
    """
    generator = torch.Generator().manual_seed(seed)
    count = count_probes(len(own))
    pixels = [_noise(count, inputs.image_size, generator)]
    most = count if inputs.is_image else max(count, FIELDS)
    fields = structured_fields(most, inputs.image_size, np.random.default_rng(seed))
    pixels.append(torch.from_numpy(np.concatenate(list(fields))))
    if inputs.is_image:
        pixels.append(sample_dead_leaves(count, inputs.image_size, generator))
    for part in torch.split(torch.cat(pixels).to(own.device), batch):
        yield inputs.to_tensor(part)
    start = torch.randperm(len(own), generator=generator)[:count].to(own.device)
    targets = (*program.training_outputs, *reversed(names))
    net = ProgramModule(program, taps=dict.fromkeys(targets), channels_last=True).to(own.device)
    for first in range(0, len(start), batch):
        x = inputs.to_tensor(own[start[first : first + batch]])
        chosen = [targets[(first + i) % len(targets)] for i in range(len(x))]
        yield seek_inputs(net, inputs, x, targets=chosen, generator=generator)


def seek_inputs(
    net: ProgramModule,
    inputs: InputFormat,
    x: Tensor,
    *,
    targets: Sequence[str],
    generator: Generator,
) -> Tensor:
    """Return model inputs (B, *shape) moved so that the i-th one drives the value `targets[i]`.

    `net` taps all `targets`.
    """
    low, high = (
        torch.from_numpy(limit).to(x.device) for limit in inputs.pixel_limits(inputs.image_size[2])
    )  # (1, C, 1, 1)
    signs = torch.randint(0, 2, (len(x),), generator=generator).to(x) * 2 - 1
    planes = _to_planes(x, inputs)
    for _ in range(STEPS):
        with torch.enable_grad():
            moved = _from_planes(planes, inputs).requires_grad_(True)
            values = net(moved)[1]
            reached = [
                _reach(sign * _of_input(values[name], i, len(x)))
                for i, (name, sign) in enumerate(zip(targets, signs, strict=True))
            ]
            (slope,) = torch.autograd.grad(torch.stack(reached).sum(), moved)
        step = _smoothed(_to_planes(slope.nan_to_num(0.0, 0.0, 0.0), inputs))
        planes = (planes + STEP * (high - low) * step).clamp(low, high)
    return _from_planes(planes, inputs).contiguous()


def _reach(value: Tensor) -> Tensor:
    """Return log |v|_8 of what is above 0, a scalar."""
    reached: Tensor = torch.linalg.vector_norm(value.clamp_min(0) + 1e-12, ORDER)
    return reached.log()


def _of_input(value: Tensor, index: int, count: int) -> Tensor:
    """Return what belongs to one input of `count`; all where inputs are not on the first axis."""
    return value[index] if value.dim() and value.shape[0] == count else value


def _noise(count: int, size: tuple[int, int, int], generator: Generator) -> Tensor:
    """Return white noise as pixels, uint8 (N, H, W, C)."""
    values = torch.randn(count, *size, generator=generator)
    return round_to_pixels(values * (127.5 / 4) + 127.5)


def _to_planes(x: Tensor, inputs: InputFormat) -> Tensor:
    """Return model inputs as (B, C, H, W); values that are no image have one channel."""
    if inputs.is_image:
        return inputs.from_layout(x)
    height, width, _ = inputs.image_size
    return x.reshape(len(x), 1, height, width)


def _from_planes(planes: Tensor, inputs: InputFormat) -> Tensor:
    """Return planes (B, C, H, W) as model inputs."""
    if inputs.is_image:
        return inputs.to_layout(planes.detach())
    return planes.detach().reshape(len(planes), *inputs.shape)


def _smoothed(slope: Tensor) -> Tensor:
    """Return planes (B, C, H, W) with amplitudes divided by frequency, of mean square 1 each."""
    height, width = slope.shape[-2:]
    down = torch.fft.fftfreq(height, device=slope.device)[:, None] * height
    across = torch.fft.rfftfreq(width, device=slope.device)[None] * width
    frequency = 1 + (down.square() + across.square()).sqrt()
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(slope) / frequency, s=(height, width))
    size = smooth.square().mean((1, 2, 3), keepdim=True).sqrt()
    return smooth / size.clamp_min(1e-12)
