"""The choice of a width for every layer as numbers: what each option costs, and what it needs.

    layer           Conv, Gemm, MatMul: (weight bits, activation bits), or float
    other node      a residual sum, a Concat, a product: on codes, or in float
    quantizer       there as soon as one node needs it; then it costs noise, and some bytes

Candidates are those of a target: of the weight widths that take equal bytes there the widest, and
the activation widths that it executes well, see `candidate_widths`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfqonnx.core.quantization import MAX_BITS, MIN_BITS, WIDE_BITS
from dfqonnx.targets.profile import TargetProfile

QUANTIZER_BYTES = 150  # QuantizeLinear and DequantizeLinear with their numbers, about
NARROW = 4  # bits of narrow activations
CONTAINER = 8  # bits of a weight that is not packed


@dataclass(frozen=True, kw_only=True)
class CandidateWidths:
    """Widths that a search chooses among."""

    weights: tuple[int, ...]  # the narrowest first
    activations: tuple[int, ...]  # the narrowest first


def stored_bits(bits: int, target: TargetProfile, storage: str) -> int:
    """Return how many bits a weight of so many takes in a file."""
    packing = target.packing_of(target.weights.grid(bits), storage)
    return CONTAINER if packing is None else packing.bits


def candidate_widths(target: TargetProfile, storage: str) -> CandidateWidths:
    """Return the widths that gain something on a target, and lose the least for it.

    `storage` is how weights are stored. Activations of 4 bits are among them only where a target
    does not say that they gain nothing, as all do today; of 16 bits where it takes them.
    """
    least = MIN_BITS if target.least_weights is None else target.least_weights.bits
    widest: dict[int, int] = {}
    for bits in range(least, MAX_BITS + 1):
        widest[stored_bits(bits, target, storage)] = bits
    activations = {MAX_BITS}
    limit = target.least_activations
    if not target.narrow_activations and (limit is None or limit.bits <= NARROW):
        activations.add(NARROW)
    if target.wide_activations is not None:
        activations.add(WIDE_BITS)
    return CandidateWidths(
        weights=tuple(sorted(widest.values())), activations=tuple(sorted(activations))
    )


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to compute a node.

    Attributes:
        weights: bits of the weight; None in float, or where there is none.
        activations: bits of what it reads; None in float.
        noise: what rounding the weight costs.
        bytes: in the file.
        seconds: for one image; 0 where time is not looked at.
        width: bits read times multiply-adds, where a target gains by fewer bits.
        repairs: the node's share of all nodes and of all multiply-adds where it is not computed on
            codes of eight bits or fewer; 0 where it is.
        needs: of each entry at least one quantizer, see `WidthProblem.quantizer_noise`.
    """

    weights: int | None = None
    activations: int | None = None
    noise: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0
    width: float = 0.0
    repairs: float = 0.0
    needs: tuple[tuple[int, ...], ...] = ()

    @property
    def is_float(self) -> bool:
        """Whether the node stays in float."""
        return self.activations is None

    @property
    def label(self) -> str:
        """The short form: `w4a8`, `a8` of a node without a weight, or `float`."""
        if self.activations is None:
            return "float"
        weights = "" if self.weights is None else f"w{self.weights}"
        return f"{weights}a{self.activations}"


@dataclass(frozen=True, kw_only=True)
class WidthProblem:
    """All options of all nodes, and what is there whatever is chosen.

    Attributes:
        nodes: by name, with the options of each.
        quantizer_noise: what each activation quantizer costs where it is there.
        base_bytes: of the file without the weights of the nodes and these quantizers.
        base_seconds: of the file without the nodes.
        float_bytes: of the float file.
        float_seconds: of the float file; 0 where time is not looked at.
    """

    nodes: Mapping[str, Sequence[Option]]
    quantizer_noise: Sequence[float]
    base_bytes: float
    base_seconds: float = 0.0
    float_bytes: float
    float_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An option for every node, and what they make together."""

    chosen: Mapping[str, Option]
    noise: float
    bytes: float
    seconds: float

    @property
    def repairs(self) -> float:
        """What is repaired, see `Option`."""
        return sum(option.repairs for option in self.chosen.values())

    @classmethod
    def of(cls, problem: WidthProblem, chosen: Mapping[str, Option]) -> Solution:
        """Add up what the options cost."""
        noise = problem.quantizer_noise
        needs = [need for option in chosen.values() for need in option.needs]
        used: set[int] = set()
        for need in sorted(set(needs), key=len):  # those without a choice first
            if used.isdisjoint(need):
                used.add(min(need, key=lambda index: noise[index]))
        return cls(
            chosen=chosen,
            noise=sum(option.noise for option in chosen.values())
            + sum(noise[index] for index in used),
            bytes=problem.base_bytes
            + sum(option.bytes for option in chosen.values())
            + QUANTIZER_BYTES * len(used),
            seconds=problem.base_seconds + sum(option.seconds for option in chosen.values()),
        )
