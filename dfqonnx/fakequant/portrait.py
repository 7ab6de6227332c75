"""A portrait of a student: where its noise is born, and how its values lie on their grids.

    SQNR(t, s) = 10 log10( sum t^2 / sum (t - s)^2 )

per node output, teacher t against student s, twice: in the network, where the noise of every
earlier node arrives too, and alone, where the node reads the teacher's values (rounded by its own
quantizer). The second says who makes the noise, the first how much is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.fakequant.fake import Quantizer
from dfqonnx.fakequant.student import Student
from dfqonnx.fakequant.weighted import QuantizedOp
from dfqonnx.spec.portrait import (
    ActivationPortrait,
    Histogram,
    LayerPortrait,
    Occupancy,
    Portrait,
)

BINS, MARGIN = 64, 8  # over a full grid; beyond each of its ends
MOST_IMAGES, LEAST_IMAGES = 64, 4
WORK = 4e9  # multiply-adds that looking may cost, per pass


def images_for(multiply_adds: int) -> int:
    """Return how many images of a network of that cost are looked at."""
    return int(min(MOST_IMAGES, max(LEAST_IMAGES, WORK // max(1, multiply_adds))))


@torch.no_grad()
def portray(student: Student, teacher: Program, x: Tensor) -> Portrait:
    """Look at `student` on model inputs `x`; both are left as they are.

    Args:
        student: trained, on the device of `x`.
        teacher: the float program.
        x: model inputs, (N, ...).
    """
    steps = {step.node: step for step in teacher.steps}
    reads = {
        op.site.node: tuple(
            name for name in steps[op.site.node].inputs if name and name not in teacher.tensors
        )
        for op in student.operators()
    }
    makes = {op.site.node: str(steps[op.site.node].outputs[0]) for op in student.operators()}
    taps = [q.site.tensor for q in student.activations()]
    taps += [*makes.values(), *(name for names in reads.values() for name in names)]
    goal = Net(teacher, taps=dict.fromkeys(taps), channels_last=True).to(x.device)(x)[1]
    outputs, seen = _watch(student, x)
    chains = _chains(student)
    layers = []
    for op in student.operators():
        node, (name, *others) = op.site.node, reads[op.site.node]
        alone = None
        if not others:
            value = goal[name]
            for quantizer in chains[op.site.input]:
                value = quantizer(value)
            alone = op(value)
        layers.append(
            _layer(op, outputs[node], alone, goal[makes[node]], chain=chains[op.site.input])
        )
    activations = [_activation(q, *seen[q.site.name], goal) for q in student.activations()]
    return Portrait(len(x), tuple(layers), tuple(activations))


def _watch(
    student: Student, x: Tensor
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Return {node: its output} and {site: (what arrives, what leaves)} for one pass."""
    outputs: dict[str, Tensor] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        if isinstance(module, QuantizedOp):
            outputs[module.site.node] = result
        elif isinstance(module, Quantizer):
            value = given[0].clamp(0.0, module.site.ceiling) if module.rectify else given[0]
            seen[module.site.name] = value, result

    with _hooked([*student.operators(), *student.activations()], note):
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


def _chains(student: Student) -> dict[str, tuple[Quantizer, ...]]:
    """Return by site name every quantizer that a tensor passes on its way to that reading."""
    makers = {q.site.tensor: q for q in student.activations() if not q.site.consumers}
    found: dict[str, tuple[Quantizer, ...]] = {}
    for q in student.activations():
        first = makers.get(q.site.tensor)
        found[q.site.name] = (q,) if first is None or first is q else (first, q)
    return found


def _layer(
    op: QuantizedOp,
    output: Tensor,
    alone: Tensor | None,
    goal: Tensor,
    *,
    chain: tuple[Quantizer, ...],
) -> LayerPortrait:
    site, grid = op.site, op.site.grid
    shape = [1] * op.weight.dim()
    shape[site.axis] = -1
    steps = op.steps()
    in_steps = op.weight / steps.view(shape)
    weight = _occupancy(in_steps, grid.lo, grid.hi, bits=grid.bits, scale=float(steps.median()))
    own = None if alone is None else sqnr_db(goal, alone)
    bits = chain[-1].site.grid.bits
    total = sqnr_db(goal, output)
    return LayerPortrait(site.node, site.op, grid.bits, bits, total, own, weight)


def _activation(
    q: Quantizer, value: Tensor, result: Tensor, goal: Mapping[str, Tensor]
) -> ActivationPortrait:
    grid, step = q.grid(), float(q.step())
    lo, hi = grid.lo - grid.zero_point, grid.hi - grid.zero_point
    values = _occupancy(value / step, lo, hi, bits=grid.bits, scale=step)
    site, decibels = q.site, sqnr_db(goal[q.site.tensor], result)
    return ActivationPortrait(site.name, site.tensor, site.role, grid.bits, decibels, values)


def _occupancy(in_steps: Tensor, lo: int, hi: int, *, bits: int, scale: float) -> Occupancy:
    values = in_steps.detach().float().flatten()
    outside = (values < lo - 0.5) | (values > hi + 0.5)
    clipped = float(outside.float().mean()) if len(values) else 0.0
    return Occupancy(lo, hi, scale, clipped, histogram(values, lo, hi, bits))


def histogram(values: Tensor, lo: int, hi: int, bits: int) -> Histogram:
    """Count `values`, in steps, over a grid from `lo` to `hi` and a margin on both sides."""
    width = 2.0**bits / BINS
    bins = math.ceil((hi - lo + 1) / width) + 2 * MARGIN
    first = lo - 0.5 - MARGIN * width
    places = ((values - first) / width).floor()
    below, above = int((places < 0).sum()), int((places >= bins).sum())
    inside = places[(places >= 0) & (places < bins)].long()
    counts = torch.bincount(inside, minlength=bins).tolist()
    return Histogram(first, width, tuple(counts), below, above)


def sqnr_db(goal: Tensor, found: Tensor) -> float | None:
    """Return the signal to quantization noise ratio in decibels; None without noise or signal."""
    signal = float(goal.double().square().sum())
    noise = float((goal - found).double().square().sum())
    if noise <= 0 or signal <= 0 or not math.isfinite(signal + noise):
        return None
    return 10 * math.log10(signal / noise)
