"""Pairs of layers between which a channel's scale is free.

    first --(Relu, PRelu, LeakyRelu, pooling, Flatten)--> second

All that stands between is positively homogeneous, f(s x) = s f(x) for s > 0, works on each channel
by itself and is read by nobody else. A Clip(0, c) is not homogeneous: it counts as a Relu only
where `clips` says that its upper bound may go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.quantization_plan import QuantizationPlan, WeightQuantizer
from dfqonnx.graph.op_traits import Trait, has_trait


@dataclass(frozen=True)
class WeightedLayer:
    """A weighted node whose weight and bias belong to it alone."""

    spec: WeightQuantizer
    group: int  # of a Conv; 1 elsewhere
    output: str  # name of the value that it writes

    def out_rows(self, weight: Tensor) -> Tensor:
        """Return the weight as (output channels, rest)."""
        return weight.movedim(self.spec.axis, 0).reshape(weight.shape[self.spec.axis], -1)

    def in_rows(self, weight: Tensor) -> Tensor:
        """Return the weight as (input channels, rest)."""
        moved = weight.movedim(self.spec.axis, 0)  # (O, I/G, ...)
        grouped = moved.reshape(self.group, moved.shape[0] // self.group, moved.shape[1], -1)
        return grouped.transpose(1, 2).reshape(self.group * moved.shape[1], -1)

    def scale_inputs(self, weight: Tensor, factors: Tensor) -> Tensor:
        """Return the weight with all that reads an input channel times the channel's factor.

        Where a channel is a block of inputs, as behind a Flatten, all of them take its factor.
        """
        moved = weight.movedim(self.spec.axis, 0)  # (O, I/G, ...)
        inputs = self.group * moved.shape[1]
        rows = factors.repeat_interleave(inputs // len(factors))
        rows = rows.reshape(self.group, 1, -1).expand(-1, moved.shape[0] // self.group, -1)
        scaled = moved * rows.reshape(*moved.shape[:2], *[1] * (moved.dim() - 2))
        return scaled.movedim(0, self.spec.axis)

    def scale_written(self, tensors: dict[str, Tensor], factors: Tensor) -> None:
        """Multiply every channel that the layer writes, bias included, by its factor, in place."""
        spec, axis = self.spec, self.spec.axis
        weight = tensors[spec.weight]
        tensors[spec.weight] = (weight.movedim(axis, -1) * factors).movedim(-1, axis)
        if spec.bias is not None:
            bias = tensors[spec.bias]
            tensors[spec.bias] = (bias.reshape(-1) * factors).reshape(bias.shape)

    def compensate_read(self, tensors: dict[str, Tensor], factors: Tensor) -> None:
        """Let the layer read channels that are `factors` times what they were, in place."""
        weight = tensors[self.spec.weight]
        tensors[self.spec.weight] = self.scale_inputs(weight, 1 / factors)


@dataclass(frozen=True)
class LayerPair:
    """Two layers and what stands between."""

    first: WeightedLayer  # writes the channels
    second: WeightedLayer  # reads them
    between: tuple[str, ...]  # operator types, in order
    clips: tuple[str, ...] = ()  # nodes among these whose upper bound has to go


def find_layer_pairs(
    program: Program, plan: QuantizationPlan, *, clips: Collection[str] = ()
) -> tuple[LayerPair, ...]:
    """Return every pair, in the order of execution; the upper bounds of `clips` may go."""
    layers = {layer.spec.node: layer for layer in find_layers(program, plan)}
    returned = {*program.outputs, program.logits}
    only_reader = {
        name: steps[0]
        for name, steps in program.readers().items()
        if len(steps) == 1 and name not in returned
    }
    found = (_find_second(layer, layers, only_reader, clips) for layer in layers.values())
    return tuple(pair for pair in found if pair is not None and _fits(pair, program))


def find_layers(program: Program, plan: QuantizationPlan) -> list[WeightedLayer]:
    """Return the weighted nodes whose weight and bias nobody else reads, in order."""
    readers = program.readers()
    steps = {step.node: step for step in program.steps}
    found = []
    for spec in plan.weights:
        step = steps[spec.node]
        own = all(len(readers[name]) == 1 for name in (spec.weight, spec.bias) if name is not None)
        plain = step.inputs[1] == spec.weight and has_trait(step.op, Trait.LAYER)
        if own and plain and program.tensors[spec.weight].dim() >= 2:
            group = int(step.attributes.get("group", 1))
            found.append(WeightedLayer(spec, group, str(step.outputs[0])))
    return found


def _find_second(
    first: WeightedLayer,
    layers: Mapping[str, WeightedLayer],
    only_reader: Mapping[str, OpCall],
    removable: Collection[str],
) -> LayerPair | None:
    """Return a layer and the next one; None where another operator or reader stands between."""
    name = first.output
    between: list[str] = []
    clips: list[str] = []
    while name in only_reader:
        step = only_reader[name]
        if step.inputs[0] != name:
            return None
        if step.node in layers:
            return LayerPair(first, layers[step.node], tuple(between), tuple(clips))
        if step.op == "Clip" and step.node in removable:
            clips.append(step.node)
        elif not has_trait(step.op, Trait.HOMOGENEOUS) and not _flattens(step):
            return None
        if len(step.outputs) != 1:
            return None
        between.append(step.op)
        name = str(step.outputs[0])
    return None


def _flattens(step: OpCall) -> bool:
    """Whether a node joins the axes of each image: the channels stay in order, as blocks."""
    return step.op == "Flatten" and step.attributes.get("axis", 1) == 1


def _fits(pair: LayerPair, program: Program) -> bool:
    """Whether the channels of both sides belong together: as many, or blocks behind Flatten."""
    written = program.tensors[pair.first.spec.weight].shape[pair.first.spec.axis]
    read = pair.second.in_rows(program.tensors[pair.second.spec.weight]).shape[0]
    return read == written or ("Flatten" in pair.between and read % written == 0)


def max_magnitudes(rows: Tensor) -> Tensor:
    """Return the largest magnitude of every row, (C,)."""
    return rows.abs().amax(1) if rows.numel() else torch.zeros(rows.shape[0])
