"""From plans, sensitivities and times to the problem that is solved.

Two plans say what may vary: one with the widest widths, one with the narrowest. A layer whose
weight, or input, has the same width in both has no choice there (a width of the user's own, a
left-over normalization, the input of the last layer).

A node may stay in float, or read 16 bits, only as a repair: where integers at their widest cost too
much, and the node is among the few that cost most of that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dfqonnx.core.quantization import MAX_BITS, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.sensitivity import QuantizerCost, Sensitivity
from dfqonnx.graph.cost import estimate_costs
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.passes.edit import get_shape
from dfqonnx.mixed_precision.width_problem import (
    CandidateWidths,
    Option,
    WidthProblem,
    stored_bits,
)
from dfqonnx.placement.couplings import find_quantizer_uses, list_other_nodes
from dfqonnx.targets.profile import TARGETS

CHANNEL_BYTES = 13  # scale, bias code and its scale, zero point of a quantized channel
LAYER_BYTES = 200  # DequantizeLinear of weight and bias, with their names
FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class NodeTimes:
    """Seconds of each node, in the float file and in the one of integers, and of both files."""

    floats: Mapping[str, float]
    integers: Mapping[str, float]
    float_total: float
    integer_total: float


@dataclass(frozen=True, kw_only=True)
class SearchInput:
    """What a problem is built from; `plans` are by the width of activations."""

    model: NormalizedModel
    plans: Mapping[int, QuantizationPlan]
    narrow: QuantizationPlan  # the narrowest of everything
    sensitivity: Sensitivity
    quant: QuantizationConfig
    widths: CandidateWidths
    base_bytes: float  # of the file without weights and activation quantizers
    times: NodeTimes | None = None  # None where time is not looked at


class ProblemBuilder:
    """Builds problems that differ in which nodes may be repaired."""

    def __init__(self, given: SearchInput) -> None:
        self._given = given
        self._uses = {
            bits: find_quantizer_uses(given.model, plan) for bits, plan in given.plans.items()
        }
        self._costs = given.sensitivity.of("activation")
        keys = dict.fromkeys((use.name, use.bits) for uses in self._uses.values() for use in uses)
        self._index = {key: number for number, key in enumerate(keys)}
        self._sizes = {cost.node: cost for cost in estimate_costs(given.model)}
        self.layers = {weight.node: weight for weight in self._widest.weights}
        self.others = list_other_nodes(self._uses[MAX_BITS], self.layers)
        work = (self._sizes[node].multiply_adds for node in self.layers if node in self._sizes)
        self._multiply_adds = max(1, sum(work))

    @property
    def _widest(self) -> QuantizationPlan:
        return self._given.plans[MAX_BITS]

    def build(self, repaired: Collection[str] = ()) -> WidthProblem:
        """Return the problem in which the nodes `repaired` may read 16 bits or stay in float."""
        nodes: dict[str, Sequence[Option]] = {}
        for node in self.layers:
            nodes[node] = self._layer_options(node, node in repaired)
        for node in self.others:
            nodes[node] = self._other_options(node, node in repaired)
        noise = [self._costs[key].noise if key in self._costs else 0.0 for key in self._index]
        times, given = self._given.times, self._given
        inside = 0.0
        if times is not None:
            inside = sum(times.integers.get(node, 0.0) for node in nodes)
        return WidthProblem(
            nodes=nodes,
            quantizer_noise=noise,
            base_bytes=given.base_bytes,
            base_seconds=0.0 if times is None else max(0.0, times.integer_total - inside),
            float_bytes=given.model.source.bytes,
            float_seconds=0.0 if times is None else times.float_total,
        )

    def all_nodes(self) -> tuple[str, ...]:
        """Return all nodes that are computed on codes."""
        return (*self.layers, *self.others)

    def worst_nodes(self, share: float, most: float) -> tuple[str, ...]:
        """Return the nodes of the costliest quantizers at their widest, `share` of the noise.

        They are at most a share `most` of the quantizers, and at least one.
        """
        widest = max(self._given.widths.weights)
        costs = self._given.sensitivity.of("weight")
        parts: list[tuple[float, tuple[str, ...]]] = [
            (_noise_of_weight(costs, node, widest), (node,)) for node in self.layers
        ]
        for use in self._uses[MAX_BITS]:
            cost = self._costs.get((use.name, use.bits))
            users = (*use.layers, *use.others, *([use.maker] if use.maker else []))
            parts.append((0.0 if cost is None else cost.noise, users))
        parts.sort(key=lambda part: -part[0])
        total, sum_so_far, found = sum(noise for noise, _ in parts), 0.0, dict[str, None]()
        for noise, users in parts[: max(1, int(most * len(parts)))]:
            if sum_so_far >= share * total:
                break
            found.update(dict.fromkeys(users))
            sum_so_far += noise
        return tuple(found)

    def _layer_options(self, node: str, is_repaired: bool) -> tuple[Option, ...]:
        given, spec = self._given, self.layers[node]
        narrow = next((w for w in given.narrow.weights if w.node == node), spec)
        is_fixed = narrow.grid.bits == spec.grid.bits
        weights = (spec.grid.bits,) if is_fixed else given.widths.weights
        target, options = TARGETS[self._widest.target], []
        costs, size = given.sensitivity.of("weight"), self._sizes.get(node)
        count = 0 if size is None else size.parameters
        seen = set()
        for bits, uses in self._uses.items():
            own = next((use for use in uses if node in use.layers), None)
            is_wide = bits > MAX_BITS
            if own is None or own.bits in seen or (is_wide and not is_repaired):
                continue
            seen.add(own.bits)
            for width in weights:
                stored = stored_bits(width, target, given.quant.weight_storage)
                options.append(
                    Option(
                        weights=width,
                        activations=own.bits,
                        noise=_noise_of_weight(costs, node, width),
                        bytes=math.ceil(count * stored / 8) + self._layer_overhead(node),
                        seconds=self._seconds(node, is_float=is_wide),
                        width=self._width(node, own.bits),
                        repairs=self._repairs(node) if is_wide else 0.0,
                        needs=((self._index[own.name, own.bits],), *self._made_by(node)),
                    )
                )
        return (*options, self._float_option(node)) if is_repaired else tuple(options)

    def _other_options(self, node: str, is_repaired: bool) -> tuple[Option, ...]:
        reads = tuple(
            (self._index[use.name, use.bits],) for use in self._uses[MAX_BITS] if node in use.others
        )
        integers = Option(
            activations=MAX_BITS,
            seconds=self._seconds(node, is_float=False),
            needs=(*reads, *self._made_by(node)),
        )
        return (integers, self._float_option(node)) if is_repaired else (integers,)

    def _made_by(self, node: str) -> tuple[tuple[int, ...], ...]:
        """Return the quantizers of which one has to stand behind a node's kernel."""
        names = [use.name for use in self._uses[MAX_BITS] if use.maker == node]
        return tuple(
            tuple(index for (name, _), index in self._index.items() if name == wanted)
            for wanted in names
        )

    def _float_option(self, node: str) -> Option:
        size = self._sizes.get(node)
        count = 0 if size is None or node not in self.layers else size.parameters
        return Option(
            bytes=FLOAT_BYTES * count,
            seconds=self._seconds(node, is_float=True),
            repairs=self._repairs(node),
        )

    def _repairs(self, node: str) -> float:
        """Return a node's share of all nodes on codes and of their multiply-adds."""
        size = self._sizes.get(node)
        own = 0 if size is None else size.multiply_adds
        return 1 / len(self.all_nodes()) + own / self._multiply_adds

    def _layer_overhead(self, node: str) -> int:
        spec = self.layers[node]
        shape = get_shape(self._given.model.ir.graph.initializers[spec.weight])
        channels = next(d for d in (shape or (0,) * 9)[spec.axis :] if isinstance(d, int))
        return channels * CHANNEL_BYTES + LAYER_BYTES

    def _seconds(self, node: str, *, is_float: bool) -> float:
        times = self._given.times
        if times is None:
            return 0.0
        return (times.floats if is_float else times.integers).get(node, 0.0)

    def _width(self, node: str, bits: int) -> float:
        if min(self._given.widths.activations) >= MAX_BITS or bits > MAX_BITS:
            return 0.0
        size = self._sizes.get(node)
        return float(bits * (0 if size is None else size.multiply_adds))


def _noise_of_weight(costs: Mapping[tuple[str, int], QuantizerCost], node: str, bits: int) -> float:
    found = costs.get((node, bits))
    return 0.0 if found is None else found.noise
