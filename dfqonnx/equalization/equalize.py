"""equalization/equalize.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dfqonnx.config.distillation import PrepareSpec
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputSpec, image_size
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization_plan import Sites
from dfqonnx.equalization.activation_balancing import level, shared_steps
from dfqonnx.equalization.bias_absorption import absorb, moved_biases
from dfqonnx.equalization.cross_layer import Statistics, equalise, scaled_statistics
from dfqonnx.equalization.expected_moments import Expected, expect
from dfqonnx.equalization.instance_norm import even, find_pairs
from dfqonnx.equalization.scale_groups import find_freedom
from dfqonnx.synthesis.pixels import to_tensor
from dfqonnx.synthesis.sources.dead_leaves import painted

_PAINTED = 4  # images that tell the spread of channels
_PIXELS, _MOST = 200_000, 64  # of those that tell their steps, and how many images at most


@dataclass(frozen=True)
class Reworked:
    """The float network that the student is a copy of.

    Attributes:
        program: the network.
        sites: its quantizers.
        expected: what its values are on the training data, by name, where it is known and asked.
    """

    program: Program
    sites: Sites
    expected: Mapping[str, Expected] = field(default_factory=dict)


def rework(
    program: Program,
    sites: Sites,
    statistics: Statistics,
    *,
    spec: PrepareSpec,
    inputs: InputSpec,
    shape: tuple[int, ...],
    progress: Progress,
) -> Reworked:
    """Return the network that quantizes best among those with the same outputs.

    Args:
        program: the float network; left as it is.
        sites: its quantizers.
        statistics: what BatchNormalization knew, by value name.
        spec: which parts are wanted.
        inputs: how pixels become the network's input.
        shape: of one input, without the batch axis.
        progress: told what was done.
    """
    program, evened = even(program, _paint(inputs, shape)) if find_pairs(program) else (program, 0)
    if evened:
        progress.note(f"channels of {evened} Conv in front of InstanceNormalization evened")
    program, statistics, levelled = _levelled(
        program, sites, statistics, share=spec.level, inputs=inputs, shape=shape
    )
    if levelled:
        steps = "step" if levelled == 1 else "steps"
        progress.note(f"channels levelled under {levelled} shared {steps} of activations")
    if spec.equalise:
        found = equalise(program, sites, statistics)
        note = f"{len(found.pairs)} pairs of layers equalised in {found.sweeps} sweeps"
        if found.relaxed:
            note += f", {len(found.relaxed)} ceilings gone"
        if spec.absorb:
            before = found.program.tensors
            found = absorb(found)
            note += f", {moved_biases(before, found)} high biases absorbed"
        progress.note(note)
        program, sites, statistics = found.program, found.sites, found.statistics
    expected: Mapping[str, Expected] = {}
    if spec.correct or spec.ranges == "batchnorm":
        expected = expect(program, statistics, inputs, shape)
    return Reworked(program, sites, expected)


def _levelled(
    program: Program,
    sites: Sites,
    statistics: Statistics,
    *,
    share: float,
    inputs: InputSpec,
    shape: tuple[int, ...],
) -> tuple[Program, Statistics, int]:
    """Return network and statistics with levelled channels, and under how many steps."""
    if not share:
        return program, statistics, 0
    freedom = find_freedom(program, sites)
    shared = shared_steps(freedom, sites)
    if not shared:
        return program, statistics, 0
    height, width, _ = image_size(shape, inputs)
    x = _paint(inputs, shape, min(_MOST, max(1, _PIXELS // (height * width))))
    factors = level(program, shared, freedom, x, share=share)
    by = {name: freedom.of(name, factors) for name in statistics.keys() & freedom.factor}
    return freedom.scaled(program, factors), scaled_statistics(statistics, by), len(shared)


def _paint(inputs: InputSpec, shape: tuple[int, ...], count: int = _PAINTED) -> Tensor:
    """Return a few dead leaves as model inputs."""
    images = painted(count, image_size(shape, inputs), torch.Generator().manual_seed(0))
    return to_tensor(images, inputs, shape=shape)
