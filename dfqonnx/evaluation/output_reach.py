"""How far inputs drive a network's outputs, against what its last layers can do.

Of the last layers z = W h + b in front of an output, with weights (O, I) and what it reads h,

    reach = sqrt( mean over entries of var_N z / mean over channels of sum_i W_oi^2 E[h_i^2] )

the deviation of z over N inputs, over that which features of the same size would give if they came
and went independently of each other. Features that stay where they are whatever the input leave z
where it is: 1 is what a network does on inputs that it was made for (0.5 to 2.6 on structured
images), noise gives 0.1 to 0.4, and next to nothing means that the outputs compared were one and
the same output. A network that was not driven may differ from its student by anything elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError
from dfqonnx.graph.last_layers import expose_values, find_last_layers
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.runtime.session import Session

Array = NDArray[np.float64]
Values = NDArray[Any]
FEWEST = 8  # inputs
MOST_BYTES = 2**30  # of a model: larger ones are not loaded once more


@dataclass(frozen=True)
class OutputReach:
    """How far the last layers in front of an output were driven."""

    output: str
    reach: float
    inputs: int  # how many it was measured on


@dataclass(frozen=True)
class LayerPower:
    """What the outputs of a layer vary by, and what independent features would make them."""

    varying: float  # mean variance over inputs
    independent: float


def measure_reach(model: NormalizedModel, x: NDArray[np.float32]) -> tuple[OutputReach, ...]:
    """Return the reach of every output with last layers, on at least 8 inputs `x`; else nothing.

    All layers in front of an output count together, and a layer that serves several outputs counts
    for the first. Nothing is known either where the runtime refuses to show what is inside.
    """
    layers = tuple(find_last_layers(model))
    if len(x) < FEWEST or not layers or model.source.bytes > MOST_BYTES:
        return ()
    values = dict.fromkeys(name for layer in layers for name in (layer.read, layer.value))
    wanted = [name for name in values if name != model.input]
    try:
        session = Session(expose_values(model, wanted), optimization="off")
        found = session.run_batched({session.inputs[0].name: x}, outputs=wanted)
    except UsageError:
        return ()
    found[model.input] = x
    powers: dict[str, list[LayerPower]] = {}
    for layer in layers:
        read, z = found[layer.read], found[layer.value]
        if len(z) == len(x) and read.ndim > 1:  # images are on the first axis
            axis = 1 if layer.is_convolution else read.ndim - 1
            power = layer_power(layer.power, read, z, axis=axis)
            powers.setdefault(layer.output, []).append(power)
    pairs = ((output, join_reach(parts)) for output, parts in powers.items())
    return tuple(OutputReach(name, reach, len(x)) for name, reach in pairs if reach is not None)


def layer_power(power: Array, read: Values, z: Values, *, axis: int) -> LayerPower:
    """Return the powers of a layer from its squared weights (I, O), its inputs and its outputs.

    Inputs and outputs are (N, ...); `axis` of the inputs holds the I features.
    """
    others = tuple(k for k in range(read.ndim) if k != axis)
    features = np.square(read.astype(np.float64)).mean(others)  # (I,)
    varying = float(z.astype(np.float64).var(axis=0, ddof=1).mean())
    return LayerPower(varying, float((features @ power).mean()))


def join_reach(parts: Sequence[LayerPower]) -> float | None:
    """Return the reach of an output from its layers; None where they read nothing but zeros."""
    varying = sum(part.varying for part in parts)
    independent = sum(part.independent for part in parts)
    if not (math.isfinite(varying) and 0 < independent < math.inf):
        return None
    return math.sqrt(varying / independent)
