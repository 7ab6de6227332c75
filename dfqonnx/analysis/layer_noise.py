"""Layer noise: where a student's quantization noise comes from, and how it uses its codes.

    SQNR(t, s) = 10 log10( sum (t - m)^2 / sum (t - s)^2 )

per node output, teacher t against student s, around the mean m of each channel (the second axis of
feature maps, the last of other tensors) over images and positions: a constant is no signal. Twice:
in the network, where the noise of every earlier node arrives too, and isolated, where the node
reads the teacher's values (rounded by its own quantizer). The second says which node makes the
noise, the first how much is there. Images pass a few at a time and only sums are kept, so that
memory stays small.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.layer_analysis import (
    ActivationNoise,
    CodeOccupancy,
    Histogram,
    LayerNoise,
    WeightedLayerNoise,
)
from dfqonnx.core.quantization import IntegerRange
from dfqonnx.fakequant.capture import Inputs, ProgramValues, capture
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.student import Student

BINS, MARGIN = 64, 8  # over a full range of codes; beyond each of its ends
SAMPLE = 2**16 - 1  # values of one tensor that a histogram counts at a time
CHUNK = 4  # images at once
WORK = 3e7  # values that are compared, all images together; a chunk is the least


@dataclass
class SignalNoise:
    """Sums over the values of each channel, and of the noise's squares."""

    noise: float = 0.0
    count: int = 0  # values of one channel
    squares: Tensor | None = None  # (C,), and so is `total`
    total: Tensor | None = None

    def add(self, wanted: Tensor, found: Tensor) -> None:
        """Take in what should be and what is, (N, C, ...) feature maps or (..., C)."""
        axis = 1 if wanted.ndim >= 4 else wanted.ndim - 1
        others = [k for k in range(wanted.ndim) if k != axis]
        values = wanted.double()  # float32 would lose what varies around a large mean
        squares, total = values.square().sum(others), values.sum(others)
        self.squares = squares if self.squares is None else self.squares + squares
        self.total = total if self.total is None else self.total + total
        self.count += wanted.numel() // wanted.shape[axis]
        self.noise += float((wanted - found).square().sum(dtype=torch.float64))

    @property
    def signal(self) -> float:
        """The power around the channels' means; 0 where rounding would give as much."""
        if self.squares is None or self.total is None:
            return 0.0
        power = float(self.squares.sum())
        varying = power - float(self.total.square().sum()) / self.count
        return varying if varying > 1e-12 * power else 0.0

    @property
    def sqnr_db(self) -> float | None:
        """The ratio in decibels; None without noise or signal."""
        if not (0 < self.noise < math.inf and 0 < self.signal < math.inf):
            return None
        return 10 * math.log10(self.signal / self.noise)


class CodeHistogram:
    """Counts values, in units of the scale, over a range of codes and a margin on both sides."""

    def __init__(self, grid: IntegerRange) -> None:
        self._low, self._high = grid.limits
        self._width = 2.0**grid.bits / BINS
        self._first = self._low - 0.5 - MARGIN * self._width
        self._bins = math.ceil((self._high - self._low + 1) / self._width) + 2 * MARGIN
        self._count = self._outside = 0
        self._counts = torch.zeros(self._bins + 2, dtype=torch.long)  # below, the bins, above

    def add(self, in_scales: Tensor) -> None:
        """Take in values that were divided by their scale."""
        values = in_scales.detach().float().flatten()
        self._count += len(values)
        beyond = (values < self._low - 0.5) | (values > self._high + 0.5)
        self._outside += int(beyond.sum())
        sampled = values[:: -(-len(values) // SAMPLE)]
        places = ((sampled - self._first) / self._width).floor().clamp(-1, self._bins) + 1
        self._counts += torch.bincount(places.long(), minlength=self._bins + 2).cpu()

    def occupancy(self, scale: float) -> CodeOccupancy:
        """Return what was counted, for a quantizer of that scale."""
        below, *inside, above = self._counts.tolist()
        return CodeOccupancy(
            lowest=self._low,
            highest=self._high,
            scale=scale,
            clipped=self._outside / max(1, self._count),
            histogram=Histogram(
                first=self._first,
                width=self._width,
                counts=tuple(inside),
                below=below,
                above=above,
            ),
        )


@torch.no_grad()
def analyze_layer_noise(student: Student, teacher: Program, x: Tensor) -> LayerNoise:
    """Compare `student` with its teacher on model inputs `x`; both are left as they are.

    Of a large network only the first inputs are used.
    """
    sums = _NoiseSums(student, teacher, x.device)
    images, most = 0, len(x)
    while images < most:
        part = x[images : min(images + CHUNK, most)]
        values = sums.add(part)
        images += len(part)
        most = min(most, max(CHUNK, int(WORK * len(part) / max(1, values))))
    layers = (layer for layer in student.layers() if layer.spec.node in sums.in_network)
    quantizers = (q for q in student.quantizers() if q.spec.name in sums.quantized)
    return LayerNoise(
        images, tuple(map(sums.layer, layers)), tuple(map(sums.activation, quantizers))
    )


class _NoiseSums:
    """Sums over images; a node's or quantizer's is there once a value has passed it.

    `in_network` and `isolated` are of the outputs of nodes, `quantized` of quantizers.
    """

    def __init__(self, student: Student, teacher: Program, device: torch.device) -> None:
        self._student = student
        self.in_network: defaultdict[str, SignalNoise] = defaultdict(SignalNoise)
        self.isolated: defaultdict[str, SignalNoise] = defaultdict(SignalNoise)
        self.quantized: defaultdict[str, SignalNoise] = defaultdict(SignalNoise)
        self._histograms: dict[str, CodeHistogram] = {}
        self._written, self._read = {}, {}
        steps = {step.node: step for step in teacher.steps}
        for layer in student.layers():
            step = steps[layer.spec.node]
            self._written[step.node] = str(step.outputs[0])
            values = [name for name in step.inputs if name and name not in teacher.tensors]
            if len(values) == 1:
                self._read[step.node] = values[0]
        tensors = [q.spec.tensor for q in student.quantizers()]
        names = [*tensors, *self._written.values(), *self._read.values()]
        self._teacher = ProgramValues(teacher, names, device)
        producers = {q.spec.tensor: q for q in student.quantizers() if not q.spec.consumers}
        self._before: dict[str, tuple[FakeQuantizer, ...]] = {}  # what a layer's input passes
        for q in student.quantizers():
            first = producers.get(q.spec.tensor, q)
            self._before[q.spec.name] = (q,) if first is q else (first, q)

    def add(self, x: Tensor) -> int:
        """Take in a few images; return how many values were compared."""
        wanted = self._teacher(x)

        def compare_layer(layer: QuantizedLayer, _: Inputs, output: Tensor) -> None:
            node = layer.spec.node
            self.in_network[node].add(wanted[self._written[node]], output)

        def compare_quantizer(q: FakeQuantizer, values: Inputs, output: Tensor) -> None:
            name, grid = q.spec.name, q.grid()
            self.quantized[name].add(wanted[q.spec.tensor], output)
            histogram = self._histograms.setdefault(name, CodeHistogram(grid))
            histogram.add(q.rectified(values[0]) / q.scale())

        with (
            capture(self._student.layers(), after=compare_layer),
            capture(self._student.quantizers(), after=compare_quantizer),
        ):
            self._student(x)
        for layer in self._student.layers():
            node = layer.spec.node
            if node in self.in_network and node in self._read:
                value = wanted[self._read[node]]
                for quantizer in self._before[layer.spec.input]:
                    value = quantizer(value)
                self.isolated[node].add(wanted[self._written[node]], layer(value))
        return sum(value.numel() for value in wanted.values())

    def layer(self, layer: QuantizedLayer) -> WeightedLayerNoise:
        """Return what was found of a layer."""
        spec = layer.spec
        histogram = CodeHistogram(spec.grid)
        histogram.add(layer.weight / layer.shaped_scales())
        return WeightedLayerNoise(
            node=spec.node,
            op=spec.op,
            weight_bits=spec.grid.bits,
            input_bits=self._before[spec.input][-1].spec.grid.bits,
            in_network_sqnr_db=self.in_network[spec.node].sqnr_db,
            isolated_sqnr_db=self.isolated[spec.node].sqnr_db,
            weight=histogram.occupancy(float(layer.scales().median())),
        )

    def activation(self, quantizer: FakeQuantizer) -> ActivationNoise:
        """Return what was found of an activation quantizer."""
        spec = quantizer.spec
        return ActivationNoise(
            quantizer=spec.name,
            tensor=spec.tensor,
            role=spec.role,
            bits=spec.grid.bits,
            sqnr_db=self.quantized[spec.name].sqnr_db,
            values=self._histograms[spec.name].occupancy(float(quantizer.scale())),
        )
