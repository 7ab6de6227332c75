"""equalization/equalize.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dfqonnx.config.distillation import EqualizationConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.equalization.activation_balancing import (
    balance_activation_channels,
    find_balanced_quantizers,
)
from dfqonnx.equalization.bias_absorption import absorb_high_bias, count_absorbed_biases
from dfqonnx.equalization.cross_layer import Statistics, equalize_cross_layer, scale_statistics
from dfqonnx.equalization.expected_moments import ActivationMoments, propagate_moments
from dfqonnx.equalization.instance_norm import find_normalized_convs, normalize_before_instance_norm
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

_PAINTED = 4  # images that tell the spread of channels
_PIXELS, _MOST = 200_000, 64  # of those that tell their steps, and how many images at most


@dataclass(frozen=True)
class EqualizedNetwork:
    """The float network that the student is a copy of.

    Attributes:
        program: the network.
        plan: its quantizers.
        moments: what its values are on the training data, by name, where it is known and asked.
    """

    program: Program
    plan: QuantizationPlan
    moments: Mapping[str, ActivationMoments] = field(default_factory=dict)


def equalize(
    program: Program,
    sites: QuantizationPlan,
    statistics: Statistics,
    *,
    spec: EqualizationConfig,
    inputs: InputFormat,
    progress: Progress,
) -> EqualizedNetwork:
    """Return the network that quantizes best among those with the same outputs.

    Args:
        program: the float network; left as it is.
        sites: its quantizers.
        statistics: what BatchNormalization knew, by value name.
        spec: which parts are wanted.
        inputs: how pixels become the network's input.
        progress: told what was done.
    """
    program, evened = (
        normalize_before_instance_norm(program, _paint(inputs))
        if find_normalized_convs(program)
        else (program, 0)
    )
    if evened:
        progress.note(f"Normalized the channels of {evened} Conv before InstanceNormalization.")
    program, statistics, leveled = _leveled(
        program, sites, statistics, share=spec.activation_balancing, inputs=inputs
    )
    if leveled:
        quantizers = "quantizer" if leveled == 1 else "quantizers"
        progress.note(f"Balanced activation channels for {leveled} per-tensor {quantizers}.")
    if spec.cross_layer:
        found = equalize_cross_layer(program, sites, statistics)
        note = f"Equalized {len(found.pairs)} pairs of layers in {found.sweeps} sweeps"
        if found.removed_clips:
            note += f", replaced {len(found.removed_clips)} ReLU6 by ReLU"
        if spec.bias_absorption:
            before = found.program.tensors
            found = absorb_high_bias(found)
            note += f", absorbed {count_absorbed_biases(before, found)} high biases"
        progress.note(f"{note}.")
        program, sites, statistics = found.program, found.plan, found.statistics
    expected: Mapping[str, ActivationMoments] = {}
    if spec.bias_correction or spec.activation_ranges == "batchnorm":
        expected = propagate_moments(program, statistics, inputs)
    return EqualizedNetwork(program, sites, expected)


def _leveled(
    program: Program,
    sites: QuantizationPlan,
    statistics: Statistics,
    *,
    share: float,
    inputs: InputFormat,
) -> tuple[Program, Statistics, int]:
    """Return network and statistics with leveled channels, and under how many steps."""
    if not share:
        return program, statistics, 0
    freedom = find_scale_groups(program, sites)
    shared = find_balanced_quantizers(freedom, sites)
    if not shared:
        return program, statistics, 0
    height, width, _ = inputs.image_size
    x = _paint(inputs, min(_MOST, max(1, _PIXELS // (height * width))))
    factors = balance_activation_channels(program, shared, freedom, x, share=share)
    by = {name: freedom.of(name, factors) for name in statistics.keys() & freedom.factor}
    return freedom.scaled(program, factors), scale_statistics(statistics, by), len(shared)


def _paint(inputs: InputFormat, count: int = _PAINTED) -> Tensor:
    """Return a few dead leaves as model inputs."""
    images = sample_dead_leaves(count, inputs.image_size, torch.Generator().manual_seed(0))
    return inputs.to_tensor(images)
