"""Equalization: a float network with the same outputs that quantizes better.

    instance_norm           channels before an InstanceNormalization get one spread
    range_leveling          channels far apart that share an activation's scale get one range
    activation_balancing    channels that share an activation's scale come nearer to one range
    cross_layer             channels of neighboring layers get equal ranges
    bias_absorption         high biases move on to the next layer

Each part says its mathematics and its source. What BatchNormalization knew of a value follows its
channels, and is propagated at the end for activation ranges and bias correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dfqonnx.config.distillation import EqualizationConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.equalization.activation_balancing import (
    balance_activation_channels,
    find_balanced_quantizers,
)
from dfqonnx.equalization.bias_absorption import absorb_high_bias, count_absorbed_biases
from dfqonnx.equalization.cross_layer import Statistics, equalize_cross_layer, scale_statistics
from dfqonnx.equalization.expected_moments import ActivationMoments, propagate_moments
from dfqonnx.equalization.instance_norm import find_normalized_convs, normalize_before_instance_norm
from dfqonnx.equalization.range_leveling import find_leveled_quantizers, level_ranges
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

_SPREAD_IMAGES = 4  # to measure the spread of channels before an InstanceNormalization on
_RANGE_PIXELS = 200_000  # to measure ranges on, all images together
_RANGE_IMAGES = 64  # at most


@dataclass(frozen=True)
class EqualizedNetwork:
    """The float network that the student is a copy of, and its quantizers.

    `moments` are those of its values on the training data, by name, where known and asked for.
    """

    program: Program
    plan: QuantizationPlan
    moments: Mapping[str, ActivationMoments] = field(default_factory=dict)


def equalize(
    program: Program,
    plan: QuantizationPlan,
    statistics: Statistics,
    *,
    spec: EqualizationConfig,
    inputs: InputFormat,
    progress: Progress,
) -> EqualizedNetwork:
    """Return the network that quantizes best among those with the same outputs."""
    progress.start("initialize", 1)
    if find_normalized_convs(program):
        x = _sample_inputs(inputs, _SPREAD_IMAGES)
        program, count = normalize_before_instance_norm(program, x)
        progress.note(f"Normalized the channels of {count} Conv before InstanceNormalization.")
    if spec.activation_balancing:
        count = 0  # ranges of channels are too uncertain where inputs are no images
        if inputs.is_image:
            program, statistics, count = _level(program, plan, statistics, inputs=inputs)
        if count:
            progress.note(f"Leveled the channels of {count} activations that lay far apart.")
        program, statistics, count = _balance(
            program, plan, statistics, strength=spec.activation_balancing, inputs=inputs
        )
        if count:
            quantizers = "quantizer" if count == 1 else "quantizers"
            progress.note(f"Balanced activation channels for {count} per-tensor {quantizers}.")
    if spec.cross_layer:
        found = equalize_cross_layer(program, plan, statistics)
        note = f"Equalized {len(found.pairs)} pairs of layers in {found.sweeps} sweeps"
        if found.removed_clips:
            note += f", replaced {len(found.removed_clips)} ReLU6 by ReLU"
        if spec.bias_absorption:
            before = found.program.tensors
            found = absorb_high_bias(found)
            note += f", absorbed {count_absorbed_biases(before, found)} high biases"
        progress.note(f"{note}.")
        program, plan, statistics = found.program, found.plan, found.statistics
    moments: Mapping[str, ActivationMoments] = {}
    if spec.bias_correction or spec.activation_ranges == "batchnorm":
        moments = propagate_moments(program, statistics, inputs)
    return EqualizedNetwork(program, plan, moments)


def _level(
    program: Program, plan: QuantizationPlan, statistics: Statistics, *, inputs: InputFormat
) -> tuple[Program, Statistics, int]:
    """Return network and statistics with leveled channels, and of how many activations."""
    groups = find_scale_groups(program, plan)
    quantizers = find_leveled_quantizers(groups, plan)
    if not quantizers:
        return program, statistics, 0
    factors, count = level_ranges(program, quantizers, groups, _sample_ranges(inputs))
    if not count:
        return program, statistics, 0
    by = {name: groups.factors_of(name, factors) for name in statistics.keys() & groups.group}
    return groups.scale(program, factors), scale_statistics(statistics, by), count


def _balance(
    program: Program,
    plan: QuantizationPlan,
    statistics: Statistics,
    *,
    strength: float,
    inputs: InputFormat,
) -> tuple[Program, Statistics, int]:
    """Return network and statistics with balanced channels, and for how many quantizers."""
    groups = find_scale_groups(program, plan)
    quantizers = find_balanced_quantizers(groups, plan)
    if not quantizers:
        return program, statistics, 0
    x = _sample_ranges(inputs)
    factors = balance_activation_channels(program, quantizers, groups, x, strength=strength)
    by = {name: groups.factors_of(name, factors) for name in statistics.keys() & groups.group}
    return groups.scale(program, factors), scale_statistics(statistics, by), len(quantizers)


def _sample_ranges(inputs: InputFormat) -> Tensor:
    """Return as many inputs as ranges are measured on."""
    height, width, _ = inputs.image_size
    count = min(_RANGE_IMAGES, max(1, _RANGE_PIXELS // (height * width)))
    return _sample_inputs(inputs, count)


def _sample_inputs(inputs: InputFormat, count: int) -> Tensor:
    """Return a few dead leaves as model inputs; structured fields for one that reads no images."""
    if not inputs.is_image:
        fields = structured_fields(count, inputs.image_size, np.random.default_rng(0))
        return inputs.to_tensor(torch.from_numpy(np.concatenate(list(fields))))
    images = sample_dead_leaves(count, inputs.image_size, torch.Generator().manual_seed(0))
    return inputs.to_tensor(images)
