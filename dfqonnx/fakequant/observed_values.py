"""Values seen at one quantizer, and how much each counts when its range is chosen.

What inputs a network will read is not known, so the error of a range is the mean over what they may
be, relative to how much each input drives the tensor:

    L(s) = sum_i w_i sum_k c_k |v_ik - Q_s(v_ik)|^p / (P_i + P / 10)        P_i = sum_k c_k |v_ik|^p

v_ik is the k-th value of input i, c_k the number of values that it stands for (a tensor is sampled;
its extremes stand for themselves), P the median of P_i: an input that hardly drives the tensor does
not count as much as the others. With a probability e that real inputs are unlike the N synthetic
ones and like the M probes (`synthesis/range_probes`), w_i is (1 - e) / N for the former and e / M
for the latter. Rounding costs (s / v)^2 / 12 and clipping by a factor r about (1 - 1 / r)^2 of an
input's power. With many codes rounding is nothing beside e times that, and the range reaches as
far as the probes; with few codes it stays where the synthetic inputs want it. No rule asks for
bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

NORM = 2.4  # p; see `scale_search`
SILENT = 0.1  # of the median power: an input of less is nearly silent
VALUES = 16384  # of a batch that are kept at one place
LEAST_VALUES = 64  # of an input


@dataclass(frozen=True)
class WeightedValues:
    """Values, and the weight of the error of each."""

    values: Tensor  # (M,)
    weights: Tensor  # (M,)


@dataclass(frozen=True)
class _Sample:
    """Values of a batch of inputs, and what each stands for."""

    rows: Tensor  # (B, K)
    counts: Tensor  # (K,)

    @property
    def power(self) -> Tensor:
        """P_i, (B,)."""
        return self.rows.abs().pow(NORM) @ self.counts


@dataclass
class ObservedValues:
    """What arrives at one place, batch by batch."""

    inputs: list[_Sample] = field(default_factory=list)
    probes: list[_Sample] = field(default_factory=list)

    def add(self, value: Tensor, *, probe: bool) -> None:
        """Keep values of a batch (B, ...), of every input as many."""
        rows = value.detach().reshape(value.shape[0] if value.dim() else 1, -1)
        kept = max(LEAST_VALUES, VALUES // len(rows))
        stride = max(1, rows.shape[1] // kept) | 1  # odd: never in step with powers of 2
        extremes = torch.stack([rows.amax(1), rows.amin(1)], 1)
        found = torch.cat([rows[:, ::stride], extremes], 1)  # (B, K)
        counts = found.new_full(found.shape[1:], stride)
        counts[-2:] = 1 if stride > 1 else 0  # without sampling they are there already
        (self.probes if probe else self.inputs).append(_Sample(found, counts))

    def weighted(self, probability: float) -> WeightedValues:
        """Return all values; probes have `probability` together, and none where there are none."""
        if not self.probes:
            probability = 0.0
        power = torch.cat([sample.power for sample in self.inputs])  # (N,)
        floor = SILENT * float(power.median())
        values, weights = [], []
        for group, share in ((self.inputs, 1 - probability), (self.probes, probability)):
            each = share / max(1, sum(len(sample.rows) for sample in group))
            for sample in group if each else ():
                scale = each / (sample.power + floor).clamp_min(1e-30)  # (B,)
                values.append(sample.rows.reshape(-1))
                weights.append((scale[:, None] * sample.counts).reshape(-1))
        return WeightedValues(torch.cat(values), torch.cat(weights))
