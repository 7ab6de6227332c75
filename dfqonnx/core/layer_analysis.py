"""What a run shows of the student beside its figures: noise per layer, values on their grids.

Everything on a grid is counted in steps from real zero: code k stands at `k - zero_point`, so a
histogram of a tensor divided by its step has the grid at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Histogram:
    """Values in bins of equal width, in steps from real zero.

    Attributes:
        first: left edge of the first bin.
        width: of a bin; a power of two, so that bins never straddle the edge of a code.
        counts: values in each bin.
        below: values left of the first bin.
        above: values right of the last bin.
    """

    first: float
    width: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0


@dataclass(frozen=True)
class CodeOccupancy:
    """A tensor and the grid that it is rounded to.

    Attributes:
        lo: smallest level, in steps from real zero.
        hi: largest level.
        scale: of one step (the median, where there is one per channel).
        clipped: share of the values that lie outside the grid, 0..1.
        histogram: of the values before rounding.
    """

    lo: int
    hi: int
    scale: float
    clipped: float
    histogram: Histogram


@dataclass(frozen=True)
class WeightedLayerNoise:
    """One Conv, Gemm or MatMul of the student against the teacher's.

    Attributes:
        node: its name.
        op: its operator.
        bits: of the weight.
        input_bits: of what it reads.
        sqnr_db: of its output in the network, everything before it quantized as well; None when
            equal or unknown.
        own_db: of its output when it reads the teacher's values: its own share.
        weight: the weight on its grid.
    """

    node: str
    op: str
    bits: int
    input_bits: int
    sqnr_db: float | None
    own_db: float | None
    weight: CodeOccupancy


@dataclass(frozen=True)
class ActivationNoise:
    """One activation quantizer.

    Attributes:
        site: its name.
        tensor: what it quantizes.
        role: as in `ActivationQuantizer`.
        bits: of its grid.
        sqnr_db: of the quantized tensor against the teacher's; None when equal or unknown.
        values: what arrives, on the grid.
    """

    site: str
    tensor: str
    role: str
    bits: int
    sqnr_db: float | None
    values: CodeOccupancy


@dataclass(frozen=True)
class LayerNoise:
    """A student, seen on held-out synthetic images.

    Attributes:
        images: how many.
        layers: in graph order.
        activations: in graph order.
    """

    images: int
    layers: tuple[WeightedLayerNoise, ...]
    activations: tuple[ActivationNoise, ...]


@dataclass(frozen=True)
class GraphNode:
    """A node's place in the normalized graph.

    Attributes:
        node: its name.
        op: its operator.
        reads: names of the nodes whose results it reads.
        multiply_adds: for one image.
        parameters: that it owns.
    """

    node: str
    op: str
    reads: tuple[str, ...]
    multiply_adds: int = 0
    parameters: int = 0
