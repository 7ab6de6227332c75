"""A portrait of a student: where its noise is born, and how its values lie on their grids.

    SQNR(t, s) = 10 log10( sum t^2 / sum (t - s)^2 )

per node output, teacher t against student s, twice: in the network, where the noise of every
earlier node arrives too, and alone, where the node reads the teacher's values (rounded by its own
quantizer). The second says who makes the noise, the first how much is there. Images pass a few at a
time and only sums are kept, so that memory stays small.

Sums that a portrait is made from: energies of signal and noise, values counted on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.layer_analysis import (
    ActivationNoise,
    CodeOccupancy,
    Histogram,
    LayerNoise,
    WeightedLayerNoise,
)
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.student import Student

BINS, MARGIN = 64, 8  # over a full grid; beyond each of its ends
SAMPLE = 2**16 - 1  # values of one tensor that a histogram counts at a time


@dataclass
class SignalNoise:
    """Sums of a signal and its noise."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, goal: Tensor, found: Tensor) -> None:
        """Take in what should be and what is."""
        self.signal += float(goal.square().sum(dtype=torch.float64))
        self.noise += float((goal - found).square().sum(dtype=torch.float64))

    @property
    def decibels(self) -> float | None:
        """The ratio; None without noise or signal."""
        if not (0 < self.noise < math.inf and 0 < self.signal < math.inf):
            return None
        return 10 * math.log10(self.signal / self.noise)


@dataclass
class CodeHistogram:
    """Values on a grid from `lo` to `hi`, in steps, counted."""

    lo: int
    hi: int
    bits: int
    seen: int = 0
    outside: int = 0
    counts: Tensor | None = None  # below, the bins, above

    def add(self, in_steps: Tensor) -> None:
        """Take in values that were divided by their step."""
        values = in_steps.detach().float().flatten()
        self.seen += len(values)
        self.outside += int(((values < self.lo - 0.5) | (values > self.hi + 0.5)).sum())
        stride = -(-len(values) // SAMPLE)
        found = _count(values[::stride], self)
        self.counts = found if self.counts is None else self.counts + found

    @property
    def width(self) -> float:
        """Of a bin, in steps."""
        return 2.0**self.bits / BINS

    @property
    def first(self) -> float:
        """Left edge of the first bin."""
        return self.lo - 0.5 - MARGIN * self.width

    @property
    def bins(self) -> int:
        """How many there are."""
        return math.ceil((self.hi - self.lo + 1) / self.width) + 2 * MARGIN

    def occupancy(self, scale: float) -> CodeOccupancy:
        """Return what was counted, on a grid of that step."""
        counts = [0] * (self.bins + 2) if self.counts is None else self.counts.tolist()
        inside = tuple(counts[1:-1])
        histogram = Histogram(
            first=self.first, width=self.width, counts=inside, below=counts[0], above=counts[-1]
        )
        return CodeOccupancy(
            lowest=self.lo,
            highest=self.hi,
            scale=scale,
            clipped=self.outside / max(1, self.seen),
            histogram=histogram,
        )


def _count(values: Tensor, tally: CodeHistogram) -> Tensor:
    """Return how many values lie below, in each bin, and above."""
    places = ((values - tally.first) / tally.width).floor().clamp(-1, tally.bins) + 1
    return torch.bincount(places.long(), minlength=tally.bins + 2)


def count_codes(values: Tensor, lo: int, hi: int, bits: int) -> Histogram:
    """Count `values`, in steps, over a grid from `lo` to `hi` and a margin on both sides."""
    tally = CodeHistogram(lo, hi, bits)
    tally.add(values)
    return tally.occupancy(1.0).histogram


def sqnr_db(goal: Tensor, found: Tensor) -> float | None:
    """Return the signal to quantization noise ratio in decibels; None without noise or signal."""
    energy = SignalNoise()
    energy.add(goal, found)
    return energy.decibels


CHUNK = 4  # images at once
WORK = 3e7  # values to look at, all images together; a chunk is the least


@dataclass(frozen=True)
class _Scene:
    """Student and teacher made ready to be looked at.

    Attributes:
        student: as it is.
        teacher: with taps at everything that is compared.
        makes: node -> tensor that it makes.
        reads: node -> tensor that it reads, where it reads only one.
        chains: site -> quantizers that a tensor passes on its way to that reading.
        together: energies of node outputs in the network.
        alone: energies of node outputs on the teacher's values.
        sites: energies of quantized tensors.
        tallies: of what arrives at the sites.
    """

    student: Student
    teacher: ProgramModule
    makes: Mapping[str, str]
    reads: Mapping[str, str]
    chains: Mapping[str, tuple[FakeQuantizer, ...]]
    together: dict[str, SignalNoise] = field(default_factory=dict)
    alone: dict[str, SignalNoise] = field(default_factory=dict)
    sites: dict[str, SignalNoise] = field(default_factory=dict)
    tallies: dict[str, CodeHistogram] = field(default_factory=dict)


@torch.no_grad()
def analyze_layer_noise(student: Student, teacher: Program, x: Tensor) -> LayerNoise:
    """Look at `student` on model inputs `x`; both are left as they are.

    Args:
        student: trained, on the device of `x`.
        teacher: the float program.
        x: model inputs, (N, ...); of a large network only the first ones are used.
    """
    scene = _scene(student, teacher, x.device)
    images, most = 0, len(x)
    while images < most:
        part = x[images : min(images + CHUNK, most)]
        values = _look(scene, part)
        images += len(part)
        most = min(most, max(CHUNK, int(WORK * len(part) / max(1, values))))
    layers = tuple(_layer(scene, op) for op in student.layers() if op.spec.node in scene.together)
    activations = tuple(
        _activation(scene, q) for q in student.quantizers() if q.spec.name in scene.sites
    )
    return LayerNoise(images, layers, activations)


def _scene(student: Student, teacher: Program, device: torch.device) -> _Scene:
    steps = {step.node: step for step in teacher.steps}
    makes, reads = {}, {}
    for op in student.layers():
        step = steps[op.spec.node]
        makes[op.spec.node] = str(step.outputs[0])
        data = [name for name in step.inputs if name and name not in teacher.tensors]
        if len(data) == 1:
            reads[op.spec.node] = data[0]
    taps = [q.spec.tensor for q in student.quantizers()] + [*makes.values(), *reads.values()]
    net = ProgramModule(teacher, taps=dict.fromkeys(taps), channels_last=True).to(device)
    makers = {q.spec.tensor: q for q in student.quantizers() if not q.spec.consumers}
    chains: dict[str, tuple[FakeQuantizer, ...]] = {}
    for q in student.quantizers():
        first = makers.get(q.spec.tensor, q)
        chains[q.spec.name] = (q,) if first is q else (first, q)
    return _Scene(student, net, makes, reads, chains)


def _look(scene: _Scene, x: Tensor) -> int:
    """Add a few images to all sums; return how many values were looked at."""
    goal = scene.teacher(x)[1]
    outputs, seen = _watch(scene.student, x)
    for op in scene.student.layers():
        node = op.spec.node
        if node not in outputs:  # no way from it to the logits
            continue
        scene.together.setdefault(node, SignalNoise()).add(goal[scene.makes[node]], outputs[node])
        if node in scene.reads:
            value = goal[scene.reads[node]]
            for quantizer in scene.chains[op.spec.input]:
                value = quantizer(value)
            scene.alone.setdefault(node, SignalNoise()).add(goal[scene.makes[node]], op(value))
    for q in scene.student.quantizers():
        if q.spec.name in seen:
            arrives, leaves = seen[q.spec.name]
            scene.sites.setdefault(q.spec.name, SignalNoise()).add(goal[q.spec.tensor], leaves)
            grid = q.grid()
            tally = scene.tallies.setdefault(q.spec.name, CodeHistogram(*grid.limits, grid.bits))
            tally.add(arrives / q.scale())
    return sum(value.numel() for value in goal.values())


def _watch(
    student: Student, x: Tensor
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Return {node: its output} and {site: (what arrives, what leaves)} for one pass."""
    outputs: dict[str, Tensor] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        if isinstance(module, QuantizedLayer):
            outputs[module.spec.node] = result
        elif isinstance(module, FakeQuantizer):
            value = given[0].clamp(0.0, module.spec.clip_max) if module.rectify else given[0]
            seen[module.spec.name] = value, result

    with _hooked([*student.layers(), *student.quantizers()], note):
        student(x)
    return outputs, seen


@contextmanager
def _hooked(modules: list[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(scene: _Scene, op: QuantizedLayer) -> WeightedLayerNoise:
    site, steps = op.spec, op.scales()
    shape = [1] * op.weight.dim()
    shape[site.axis] = -1
    tally = CodeHistogram(*site.grid.limits, site.grid.bits)
    tally.add(op.weight / steps.view(shape))
    alone = scene.alone.get(site.node)
    return WeightedLayerNoise(
        node=site.node,
        op=site.op,
        weight_bits=site.grid.bits,
        input_bits=scene.chains[site.input][-1].spec.grid.bits,
        in_network_sqnr_db=scene.together[site.node].decibels,
        isolated_sqnr_db=None if alone is None else alone.decibels,
        weight=tally.occupancy(float(steps.median())),
    )


def _activation(scene: _Scene, q: FakeQuantizer) -> ActivationNoise:
    name, step = q.spec.name, float(q.scale())
    decibels, values = scene.sites[name].decibels, scene.tallies[name].occupancy(step)
    return ActivationNoise(
        quantizer=name,
        tensor=q.spec.tensor,
        role=q.spec.role,
        bits=q.spec.grid.bits,
        sqnr_db=decibels,
        values=values,
    )
