"""Values of the sensitivity analysis: what each quantizer costs the outputs at each width.

`loss` is KL(teacher || student) in nats for classes, else the power of the error over that of what
varies in the float output, with this quantizer alone at work. `estimated` is the same by a
second-order expansion, without running the student. `noise` is the ratio that the estimate of the
drop reads; it is the loss where outputs hold no classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["weight", "activation"]


@dataclass(frozen=True, kw_only=True)
class QuantizerCost:
    """What one quantizer costs at one width.

    Attributes:
        kind: whether it stands on a weight or on an activation.
        name: the node of a weight, or the name of an activation's quantizer.
        tensor: the tensor that is rounded; the node of a weight.
        readers: for an activation, the Conv, Gemm and MatMul that read it.
        bits: the width.
        loss: measured, all other quantizers off.
        estimated: the second-order estimate of the same.
        noise: power of the output's noise over its signal, see `evaluation/drop_estimate`.
    """

    kind: Kind
    name: str
    tensor: str
    readers: tuple[str, ...] = ()
    bits: int
    loss: float
    estimated: float
    noise: float


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The costs of all quantizers, in graph order.

    Attributes:
        costs: by quantizer and width.
        images: how many synthetic ones were passed.
        unit: what a loss is, in words.
        certainty: of the float model on these images, 0 to 1; None where there are no classes.
        rank_correlation: Spearman's, of measured and estimated losses; None of fewer than three, or
            where losses are the estimates.
        seconds: of the processor, all in all.
    """

    costs: tuple[QuantizerCost, ...]
    images: int
    unit: str
    certainty: float | None
    rank_correlation: float | None
    seconds: float

    def of(self, kind: Kind) -> Mapping[tuple[str, int], QuantizerCost]:
        """Return the costs of weights by node and width, or of activations by name and width."""
        return {(cost.name, cost.bits): cost for cost in self.costs if cost.kind == kind}

    def widths(self, kind: Kind) -> Sequence[int]:
        """Return the widths that were tried, the narrowest first."""
        return sorted({cost.bits for cost in self.costs if cost.kind == kind})
