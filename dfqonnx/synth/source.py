"""Sources: things that yield images for a teacher. One file each, filed here by name.

A source is a function `Studio -> Iterator[Tensor]` that yields uint8 images (B, H, W, C). It takes
everything it may use from its `Studio`; it draws all randomness from the studio's generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dfqonnx.convert.program import Program
from dfqonnx.progress import Progress
from dfqonnx.registry import Registry
from dfqonnx.spec.imagesize import image_size
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.sites import ChannelStatistics
from dfqonnx.spec.synth import SynthSpec
from dfqonnx.synth.effort import Plan


@dataclass(frozen=True)
class Studio:
    """What a source may use.

    Attributes:
        teacher: the float network.
        statistics: what BatchNormalization knew, by value name; empty where it is gone.
        inputs: how pixels become the teacher's tensor.
        shape: of one input, without the batch axis, in the teacher's layout.
        spec: the recipe.
        plan: how many images and steps.
        generator: CPU randomness.
        device: where to compute.
        progress: told of every step.
    """

    teacher: Program
    statistics: Mapping[str, ChannelStatistics]
    inputs: InputSpec
    shape: tuple[int, ...]
    spec: SynthSpec
    plan: Plan
    generator: Generator
    device: torch.device
    progress: Progress

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels of the pixels."""
        return image_size(self.shape, self.inputs)


Source = Callable[[Studio], Iterator[Tensor]]
SOURCES: Registry[Source] = Registry("source")
