"""Which channels may be scaled without changing what a float network computes.

    W_out[c] -> f W_out[c],  b[c] -> f b[c]        in every layer that makes channel c
    W_in[:, c] -> W_in[:, c] / f                   in every layer that reads it,  f > 0

Where values are added their channels have one factor, so a residual stream is free as a whole:
factors belong to the connected components of what `tied` ties. A component is free unless one of
its channels is fixed, fed or returned.

Source of the freedom between two layers: Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.fakequant.pairs import Layer, find_layers
from dfqonnx.fakequant.tied import Numbers, Walk
from dfqonnx.spec.sites import Sites


@dataclass(frozen=True)
class Freedom:
    """Free channels.

    Attributes:
        count: F, how many factors may be chosen.
        factor: value name -> (C,) which of them each channel has; -1 where it has none.
        layers: every layer whose channels are known, with what it reads where that is known.
        rows: names of values whose channels are the last axis, as of a Gemm; axis 1 elsewhere.
    """

    count: int
    factor: Mapping[str, Numbers]
    layers: tuple[tuple[Layer, str | None], ...]
    rows: frozenset[str] = frozenset()

    def channels(self, name: str, value: Tensor) -> Tensor:
        """Return a value as (N, C, ...), whichever axis or block of columns its channels are."""
        front = value.movedim(-1, 1) if name in self.rows else value
        count = len(self.factor[name])
        return front.reshape(front.shape[0], count, -1, *front.shape[2:])

    def of(self, value: str, factors: Tensor) -> Tensor:
        """Return the factor of every channel of a value, (C,); 1 where it has none.

        Args:
            value: one of `factor`.
            factors: (F,).
        """
        numbers = torch.from_numpy(self.factor[value])
        return torch.cat([factors, factors.new_ones(1)])[numbers]

    def scaled(self, program: Program, factors: Tensor) -> Program:
        """Return the program with its channels scaled; it computes what it did.

        Args:
            program: where the freedom was found.
            factors: (F,), above 0.
        """
        tensors = dict(program.tensors)
        for layer, read in self.layers:
            if read is not None:
                layer.scale_read(tensors, self.of(read, factors))
            layer.scale_made(tensors, self.of(layer.output, factors))
        return replace(program, tensors=tensors)


def find_freedom(program: Program, sites: Sites) -> Freedom:
    """Return the free channels of a float network.

    Args:
        program: the network.
        sites: names the layers: nodes that stay float keep their channels.
    """
    walk = Walk(program, {layer.site.node: layer for layer in find_layers(program, sites)})
    none = np.zeros(0, np.int64)
    one = np.concatenate([none, *(old for old, _ in walk.ties)])
    other = np.concatenate([none, *(new for _, new in walk.ties)])
    ties = coo_array((np.ones(len(one)), (one, other)), shape=(walk.total, walk.total))
    parts, label = connected_components(ties, directed=False) if walk.total else (0, none)
    free = np.ones(parts, bool)
    for name in walk.fixed & walk.values.keys():
        free[label[walk.values[name].numbers()]] = False
    number = np.where(free, np.cumsum(free) - 1, -1)
    factor = {name: number[label[value.numbers()]] for name, value in walk.values.items()}
    rows = frozenset(name for name, value in walk.values.items() if value.rows)
    return Freedom(int(free.sum()), factor, tuple(walk.reads), rows)
