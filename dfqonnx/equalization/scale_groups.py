"""Which channels of a float network may be scaled, and which of them have one scale.

    W_out[c] -> f W_out[c],  b[c] -> f b[c]        in every layer that writes channel c
    W_in[:, c] -> W_in[:, c] / f                   in every layer that reads it,  f > 0

changes nothing where all that stands between works on each channel by itself with g(f x) = f g(x).
Every value gets numbers for its channels; two channels are tied when an operator passes one on as
the other:

    Relu, LeakyRelu, PRelu, Identity, pooling, Slice of positions     channel c to channel c
    product with numbers, one or one a channel; Resize of positions   channel c to channel c
    Add                                      channels c of both terms to channel c of the sum
    Concat, zero Pad of the channel axis     channel c to channel c + offset
    Flatten                                  a channel becomes a block of columns

So where values are added their channels have one factor, and a residual stream is free as a whole:
factors belong to the connected components of the ties, the scale groups. A group is free unless
another operator reads or writes one of its channels, or the network reads or returns it.

Source of the freedom between two layers: Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.equalization.layers import WeightedLayer, find_layers
from dfqonnx.graph.op_traits import Trait, has_trait

Numbers = NDArray[np.int64]
POSITIONS = frozenset({2.0, 3.0, 4.0})  # axes behind the channels of maps


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of one value."""

    first: int = 0  # number of the first
    size: int  # C
    rows: bool = False  # they are the last axis, as a Gemm has them, instead of axis 1 of maps
    point: bool = False  # a map has one position
    block: bool = False  # a channel is a block of columns

    def numbers(self, at: int = 0, size: int | None = None) -> Numbers:
        """Return the numbers of `size` channels from `at` on."""
        start = self.first + at
        return np.arange(start, start + (self.size if size is None else size), dtype=np.int64)


class _Ties:
    """The channels of all values, and which of them are tied."""

    def __init__(self, program: Program, layers: Mapping[str, WeightedLayer]) -> None:
        self._program, self._layers = program, layers
        self.values: dict[str, Channels] = {}  # where they are known
        self.ties: list[tuple[Numbers, Numbers]] = []  # numbers of channels that have one scale
        self.fixed = {*program.outputs, *program.training_outputs, program.logits}  # not scaled
        self.reads: list[tuple[WeightedLayer, str | None]] = []  # in order; what is read
        self.total = 0  # channels numbered so far
        for step in program.steps:
            self._add_step(step)

    def _add_step(self, step: OpCall) -> None:
        read = [name for name in step.reads() if name not in self._program.tensors]
        written = list(step.writes())
        if step.node in self._layers and read == [step.inputs[0]]:
            self._add_layer(self._layers[step.node], step, read[0])
            return
        known = [self.values[name] for name in read if name in self.values]
        whole = bool(known) and len(known) == len(read) and len(written) == 1
        if not (whole and self._tie(step, known, written[0])):
            self.fixed.update((*read, *written))

    def _add_layer(self, layer: WeightedLayer, step: OpCall, read: str) -> None:
        weight = self._program.tensors[layer.spec.weight]
        rows, known = step.op != "Conv", self.values.get(read)
        fits = False
        if known is not None and known.rows == rows:
            columns = len(layer.in_rows(weight))
            fits = columns == known.size or (known.block and columns % known.size == 0)
        if not fits:
            self.fixed.add(read)
        self.reads.append((layer, read if fits else None))
        self._number(layer.output, Channels(size=weight.shape[layer.spec.axis], rows=rows))

    def _tie(self, step: OpCall, known: list[Channels], written: str) -> bool:
        """Tie what a step writes to what it reads; False where they have no common scale."""
        first, several = known[0], len(known) > 1
        all_read = len(known) == len(list(step.reads()))
        maps = not any(value.rows for value in known)
        homogeneous = has_trait(step.op, Trait.HOMOGENEOUS)
        if homogeneous and has_trait(step.op, Trait.ELEMENTWISE) and not several:
            return self._tie_each(known, written, first)
        if homogeneous and has_trait(step.op, Trait.POOLING) and maps:
            pooled = replace(first, point=step.op == "GlobalAveragePool")
            return self._tie_each(known, written, pooled)
        if (step.op == "Resize" or has_trait(step.op, Trait.LINEAR)) and not several:
            linear = self._is_linear(step, first)
            return linear and self._tie_each(known, written, replace(first, point=False))
        if step.op == "Slice" and maps and not several:
            return self._slices_positions(step) and self._tie_each(known, written, first)
        if has_trait(step.op, Trait.ROW_MAJOR) and maps and not several:
            flat = replace(first, rows=True, block=not first.point, point=False)
            return self._flattens(step, first) and self._tie_each(known, written, flat)
        if step.op == "Add" and all_read and several and not any(v.block for v in known):
            alike = len({(value.size, value.rows) for value in known}) == 1
            return alike and self._tie_each(known, written, replace(first, point=False))
        if step.op == "Concat" and all_read and maps and step.attributes.get("axis") == 1:
            return self._tie_joined(known, written)
        pads = self._zero_channels(step) if step.op == "Pad" and maps and not several else None
        return pads is not None and self._tie_joined(known, written, *pads)

    def _number(self, name: str, like: Channels) -> Channels:
        self.values[name] = replace(like, first=self.total)
        self.total += like.size
        return self.values[name]

    def _tie_each(self, known: list[Channels], written: str, like: Channels) -> bool:
        new = self._number(written, like)
        self.ties += [(value.numbers(), new.numbers()) for value in known]
        return True

    def _tie_joined(
        self, known: list[Channels], written: str, before: int = 0, behind: int = 0
    ) -> bool:
        size = before + sum(value.size for value in known) + behind
        new, at = self._number(written, Channels(size=size)), before
        for value in known:
            self.ties.append((value.numbers(), new.numbers(at, value.size)))
            at += value.size
        return True

    def _is_linear(self, step: OpCall, value: Channels) -> bool:
        """Return whether every channel is a linear function of its own channel."""
        if step.op == "Resize":
            crops = step.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
            scales = self._constant(step, 2)
            return not (value.rows or value.block or crops) and scales[:2] == [1, 1]
        tensors = self._program.tensors
        shapes = [tuple(tensors[name].shape) for name in step.reads() if name in tensors]
        if len(shapes) != 1 or (step.op == "Div" and step.inputs[0] in tensors):
            return False
        sizes = list(shapes[0])
        while sizes[:1] == [1]:
            del sizes[0]
        by_channel = [value.size] if value.rows else [value.size, *[1] * (len(sizes) - 1)]
        return not sizes or (sizes == by_channel and (value.rows or len(sizes) > 1))

    def _slices_positions(self, step: OpCall) -> bool:
        axes = self._constant(step, 3)
        return bool(axes) and set(axes) <= POSITIONS

    def _flattens(self, step: OpCall, value: Channels) -> bool:
        if step.op == "Flatten":
            return bool(step.attributes.get("axis", 1) == 1)
        shape = self._constant(step, 1) if step.op == "Reshape" else []
        return value.point and len(shape) == 2 and shape[1] == value.size

    def _zero_channels(self, step: OpCall) -> tuple[int, int] | None:
        """Return how many channels of zeros stand before and behind; None for another Pad."""
        pads, value, axes = (self._constant(step, at) for at in (1, 2, 3))
        zeros = step.attributes.get("mode", "constant") == "constant" and not any(value)
        half = len(pads) // 2
        if not zeros or axes or half < 3 or min(pads) < 0 or pads[0] or pads[half]:
            return None
        return int(pads[1]), int(pads[half + 1])

    def _constant(self, step: OpCall, at: int) -> list[float]:
        """Return an input's numbers; none where it is absent."""
        name = step.inputs[at] if at < len(step.inputs) else None
        tensor = None if name is None else self._program.tensors.get(name)
        return [] if tensor is None else [float(v) for v in tensor.reshape(-1)]


@dataclass(frozen=True)
class ScaleGroups:
    """The free scale groups of a network.

    `group` is the scale group of each channel by value name, (C,); -1 where its scale is fixed.
    `layers` are those whose channels are known, with what each reads where that is known.
    """

    count: int  # F, how many factors may be chosen
    group: Mapping[str, Numbers]
    layers: tuple[tuple[WeightedLayer, str | None], ...]
    rows: frozenset[str] = frozenset()  # values whose channels are the last axis, as of a Gemm

    def by_channel(self, name: str, value: Tensor) -> Tensor:
        """Return a value as (N, C, ...), whichever axis or block of columns its channels are."""
        front = value.movedim(-1, 1) if name in self.rows else value
        return front.reshape(front.shape[0], len(self.group[name]), -1, *front.shape[2:])

    def factors_of(self, value: str, factors: Tensor) -> Tensor:
        """Return the factors (C,) of a value from those of groups (F,); 1 where it is fixed."""
        numbers = torch.from_numpy(self.group[value])
        return torch.cat([factors, factors.new_ones(1)])[numbers]

    def scale(self, program: Program, factors: Tensor) -> Program:
        """Return the program, to which the groups belong, with its channels times `factors` (F,).

        It computes what it did; all factors are above 0.
        """
        tensors = dict(program.tensors)
        for layer, read in self.layers:
            if read is not None:
                layer.compensate_read(tensors, self.factors_of(read, factors))
            layer.scale_written(tensors, self.factors_of(layer.output, factors))
        return replace(program, tensors=tensors)


def find_scale_groups(program: Program, plan: QuantizationPlan) -> ScaleGroups:
    """Return the free scale groups of a network; nodes that stay float keep their channels."""
    found = _Ties(program, {layer.spec.node: layer for layer in find_layers(program, plan)})
    none = np.zeros(0, np.int64)
    one = np.concatenate([none, *(old for old, _ in found.ties)])
    other = np.concatenate([none, *(new for _, new in found.ties)])
    ties = coo_array((np.ones(len(one)), (one, other)), shape=(found.total, found.total))
    parts, label = connected_components(ties, directed=False) if found.total else (0, none)
    free = np.ones(parts, bool)
    for name in found.fixed & found.values.keys():
        free[label[found.values[name].numbers()]] = False
    number = np.where(free, np.cumsum(free) - 1, -1)
    group = {name: number[label[value.numbers()]] for name, value in found.values.items()}
    rows = frozenset(name for name, value in found.values.items() if value.rows)
    return ScaleGroups(int(free.sum()), group, tuple(found.reads), rows)
