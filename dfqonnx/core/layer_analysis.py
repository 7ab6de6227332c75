"""Values of the noise analysis: quantization noise per layer, and histograms over the codes.

Histograms are in units of the scale and relative to real zero: code k stands at `k - zero_point`,
so a tensor divided by its scale has its codes at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Values in bins of equal width, in units of the scale.

    `first` is the left edge of the first bin; `width` is a power of two, so that no bin straddles
    the edge of a code; `below` and `above` count the values beyond the bins.
    """

    first: float
    width: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0


@dataclass(frozen=True, kw_only=True)
class CodeOccupancy:
    """A tensor before rounding, and the codes that it is rounded to."""

    lowest: int  # code, relative to the zero point
    highest: int  # code, relative to the zero point
    scale: float  # of the quantizer; the median, where there is one per channel
    clipped: float  # fraction of the values beyond the lowest and the highest code
    histogram: Histogram


@dataclass(frozen=True, kw_only=True)
class WeightedLayerNoise:
    """The quantization noise of one Conv, Gemm or MatMul.

    `in_network_sqnr_db` is of its output in the student, where everything before it is quantized as
    well, `isolated_sqnr_db` of its output when it reads the teacher's values; None when there is no
    noise, or it is unknown. `weight` is the one before rounding.
    """

    node: str
    op: str
    weight_bits: int
    input_bits: int
    in_network_sqnr_db: float | None
    isolated_sqnr_db: float | None
    weight: CodeOccupancy


@dataclass(frozen=True, kw_only=True)
class ActivationNoise:
    """The quantization noise of one activation quantizer.

    `sqnr_db` is None when there is no noise or it is unknown; `values` are those before rounding.
    """

    quantizer: str
    tensor: str
    role: str
    bits: int
    sqnr_db: float | None
    values: CodeOccupancy


@dataclass(frozen=True)
class LayerNoise:
    """The noise of all layers and activations, in graph order, on so many held-out images."""

    images: int
    layers: tuple[WeightedLayerNoise, ...]
    activations: tuple[ActivationNoise, ...]


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """A node of the normalized graph; `reads` names the nodes whose outputs it reads."""

    node: str
    op: str
    reads: tuple[str, ...]
    multiply_adds: int = 0
    parameters: int = 0
