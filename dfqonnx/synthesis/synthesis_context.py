"""Sources of images for a teacher, registered here by name.

A source is a function `SynthesisContext -> Iterable[Tensor]` of uint8 images (B, H, W, C). It draws
all its randomness from the context's generator. One that returns `OnlineGenerators` can be drawn
from again, and goes on learning while a student trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.core.registry import Registry
from dfqonnx.synthesis.budget import SynthesisPlan


@dataclass(frozen=True, kw_only=True)
class SynthesisContext:
    """What a source may use."""

    teacher: Program
    statistics: Mapping[str, ChannelStatistics]  # by value name; empty without BatchNormalization
    inputs: InputFormat
    config: SynthesisConfig
    plan: SynthesisPlan
    generator: Generator  # on the CPU
    run: RunContext
    opponents: tuple[Callable[[Tensor], Tensor], ...] = ()  # model inputs -> logits

    @property
    def device(self) -> torch.device:
        """The device of all computation."""
        return torch.device(self.run.device)


Source = Callable[[SynthesisContext], Iterable[Tensor]]
SOURCES: Registry[Source] = Registry("source")
