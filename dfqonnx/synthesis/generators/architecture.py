"""Generators: networks from random vectors to images, one architecture a file beside this one.

A generator is a module `(z, labels) -> images`: z (B, latent), labels (B,) or None where it is not
conditional, images (B, C, H, W) of mean 0 and deviation 1 per channel, as the published ones end in
a BatchNorm without affine parameters. `OutputToPixels` makes valid pixels of that. A checkpoint is
an npz of the arrays of generators that were trained before, as a run leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.registry import Registry
from dfqonnx.data.npz_file import list_arrays, read_arrays
from dfqonnx.errors import UsageError

MEAN, DEVIATION = 0.47, 0.25  # of photographs' pixels, 0..1


@dataclass(frozen=True, kw_only=True)
class GeneratorShape:
    """The sizes that a generator is built for."""

    height: int
    width: int
    channels: int
    latent: int  # length of the random vector
    classes: int = 0  # that it can be asked for; 0 where it is not conditional
    width_multiplier: float = 1.0  # a factor on the published numbers of channels

    def scaled(self, channels: int) -> int:
        """Return a published number of channels times `width_multiplier`, at least 4."""
        return max(4, round(channels * self.width_multiplier))

    def halved(self, times: int) -> tuple[int, int]:
        """Return height and width after halving `times` times, rounded up."""
        return -(-self.height // 2**times), -(-self.width // 2**times)


GENERATORS: Registry[Callable[[GeneratorShape], nn.Module]] = Registry("generator")


def build(architecture: str, shape: GeneratorShape, *, generator: Generator) -> nn.Module:
    """Return a generator with random weights.

    Raises:
        UsageError: no such architecture.
    """
    make = GENERATORS[architecture]
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(shape)
    for parameter in network.parameters():
        if parameter.dim() == 4:  # the faster memory order on CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


class Upsample(nn.Module):
    """Nearest-neighbor enlargement to a fixed size."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, h, w) as (B, C, *size)."""
        if (x.shape[2] * 2, x.shape[3] * 2) == self.size:
            return functional.interpolate(x, scale_factor=2.0)
        return functional.interpolate(x, size=self.size)


class OutputToPixels:
    """From a generator's output to the tensor of valid pixels that a model reads.

        pixel = clamp(MEAN + DEVIATION output, 0, 1);  tensor as `InputFormat` says

    The clamp stops the gradient of what lies outside.
    """

    def __init__(self, inputs: InputFormat, channels: int) -> None:
        low, high = map(torch.from_numpy, inputs.pixel_limits(channels))  # (1, C, 1, 1)
        self._low, self._span = low, high - low

    def __call__(self, output: Tensor) -> Tensor:
        """Return (B, C, H, W) in the model's units."""
        low, span = self._low.to(output), self._span.to(output)
        return low + span * (MEAN + DEVIATION * output).clamp(0.0, 1.0)


def load_checkpoint(path: str, networks: Sequence[nn.Module]) -> None:
    """Give the networks the arrays in `path`.

    Raises:
        UsageError: no such file, or one of other networks.
    """
    where = f"synthesis.generator.checkpoint {path}"
    if not Path(path).is_file():
        raise UsageError(f"{where}: no such file")
    flag = "synthesis.generator.checkpoint"
    arrays = read_arrays(Path(path), list_arrays(Path(path), flag=flag), flag=flag)
    for index, network in enumerate(networks):
        own = network.state_dict()
        found = {name: arrays.pop(f"{index}.{name}", None) for name in own}
        for name, value in found.items():
            shape = tuple(own[name].shape)
            if value is None or value.shape != shape:
                has = "missing" if value is None else f"{value.shape}"
                raise UsageError(
                    f"{where}: {index}.{name} is {has}, expected {shape}; it was trained for other "
                    "images or by another recipe"
                )
        network.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in found.items()})
    if arrays:
        raise UsageError(f"{where}: holds more than {len(networks)} generators of this recipe")
