"""Pairs of layers between which a channel's scale is free.

    first --(Relu, PRelu, LeakyRelu, pooling, Flatten)--> second

All that stands between is positively homogeneous, f(s x) = s f(x) for s > 0, works on each channel
by itself and is read by nobody else. A Clip(0, c) is not homogeneous: it counts as a Relu only
where `clips` says that its ceiling may go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.quantization_plan import QuantizationPlan, WeightQuantizer
from dfqonnx.graph.op_traits import Trait, has_trait


@dataclass(frozen=True)
class WeightedLayer:
    """A weighted node with constants of its own.

    Attributes:
        spec: its weight site.
        group: of a Conv; 1 elsewhere.
        output: name of the value it makes.
    """

    spec: WeightQuantizer
    group: int
    output: str

    def out_rows(self, weight: Tensor) -> Tensor:
        """Return the weight as (output channels, rest)."""
        return weight.movedim(self.spec.axis, 0).reshape(weight.shape[self.spec.axis], -1)

    def in_rows(self, weight: Tensor) -> Tensor:
        """Return the weight as (input channels, rest)."""
        moved = weight.movedim(self.spec.axis, 0)  # (O, I/G, ...)
        grouped = moved.reshape(self.group, moved.shape[0] // self.group, moved.shape[1], -1)
        return grouped.transpose(1, 2).reshape(self.group * moved.shape[1], -1)

    def scale_outputs(self, weight: Tensor, factors: Tensor) -> Tensor:
        """Return the weight with every output channel times its factor."""
        return (weight.movedim(self.spec.axis, -1) * factors).movedim(-1, self.spec.axis)

    def scale_inputs(self, weight: Tensor, factors: Tensor) -> Tensor:
        """Return the weight with every input channel times its factor."""
        moved = weight.movedim(self.spec.axis, 0)  # (O, I/G, ...)
        rows = factors.reshape(self.group, 1, moved.shape[1])
        rows = rows.expand(-1, moved.shape[0] // self.group, -1).reshape(moved.shape[:2])
        scaled = moved * rows.reshape(*rows.shape, *[1] * (moved.dim() - 2))
        return scaled.movedim(0, self.spec.axis)

    def scale_made(self, tensors: dict[str, Tensor], factors: Tensor) -> None:
        """Multiply every channel that the layer makes, bias included, by its factor, in place."""
        site = self.spec
        tensors[site.weight] = self.scale_outputs(tensors[site.weight], factors)
        if site.bias is not None:
            bias = tensors[site.bias]
            tensors[site.bias] = (bias.reshape(-1) * factors).reshape(bias.shape)

    def scale_read(self, tensors: dict[str, Tensor], factors: Tensor) -> None:
        """Let the layer read channels that are `factors` times what they were, in place."""
        weight = tensors[self.spec.weight]
        by = self.spread(1 / factors, weight)
        tensors[self.spec.weight] = self.scale_inputs(weight, by)

    def spread(self, factors: Tensor, weight: Tensor) -> Tensor:
        """Return one factor per input, each repeated where a channel has a block of them."""
        return factors.repeat_interleave(len(self.in_rows(weight)) // len(factors))


@dataclass(frozen=True)
class LayerPair:
    """Two layers and what stands between.

    Attributes:
        first: makes the channels.
        second: reads them.
        between: operator types, in order.
        clips: nodes among these whose ceiling has to go.
    """

    first: WeightedLayer
    second: WeightedLayer
    between: tuple[str, ...]
    clips: tuple[str, ...] = ()


def find_layer_pairs(
    program: Program, sites: QuantizationPlan, *, clips: Collection[str] = ()
) -> tuple[LayerPair, ...]:
    """Return every pair, in the order of execution.

    Args:
        program: the float network.
        sites: names the weighted nodes.
        clips: nodes whose ceiling may go.
    """
    layers = {layer.spec.node: layer for layer in find_layers(program, sites)}
    readers: dict[str, list[OpCall]] = {}
    for step in program.steps:
        for name in step.reads():
            readers.setdefault(name, []).append(step)
    kept = {*program.outputs, program.logits}
    alone = {name: steps[0] for name, steps in readers.items() if len(steps) == 1}
    alone = {name: step for name, step in alone.items() if name not in kept}
    found = (_follow(layer, layers, alone, clips) for layer in layers.values())
    return tuple(pair for pair in found if pair is not None and _fits(pair, program))


def find_layers(program: Program, sites: QuantizationPlan) -> list[WeightedLayer]:
    """Return the weighted nodes whose weight and bias nobody else reads, in order."""
    uses = Counter(name for step in program.steps for name in step.reads())
    steps = {step.node: step for step in program.steps}
    found = []
    for site in sites.weights:
        step = steps[site.node]
        own = all(uses[name] == 1 for name in (site.weight, site.bias) if name is not None)
        plain = step.inputs[1] == site.weight and has_trait(step.op, Trait.LAYER)
        if own and plain and program.tensors[site.weight].dim() >= 2:
            group = int(step.attributes.get("group", 1))
            found.append(WeightedLayer(site, group, str(step.outputs[0])))
    return found


def _follow(
    first: WeightedLayer,
    layers: dict[str, WeightedLayer],
    alone: dict[str, OpCall],
    free: Collection[str],
) -> LayerPair | None:
    """Walk from a layer's output to the next layer; None where somebody else reads on the way.

    Args:
        first: where to begin.
        layers: by node.
        alone: the only reader of a value, by its name.
        free: nodes whose ceiling may go.
    """
    name = first.output
    between: list[str] = []
    clips: list[str] = []
    while name in alone:
        step = alone[name]
        if step.inputs[0] != name:
            return None
        if step.node in layers:
            return LayerPair(first, layers[step.node], tuple(between), tuple(clips))
        if step.op == "Clip" and step.node in free:
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
    made = program.tensors[pair.first.spec.weight].shape[pair.first.spec.axis]
    read = pair.second.in_rows(program.tensors[pair.second.spec.weight]).shape[0]
    return read == made or ("Flatten" in pair.between and read % made == 0)


def largest(rows: Tensor) -> Tensor:
    """Return the largest magnitude of every row, (C,)."""
    return rows.abs().amax(1) if rows.numel() else torch.zeros(rows.shape[0])
