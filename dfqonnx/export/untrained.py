"""Parameters before any training: enough to export a file and to see what a runtime makes of it.

activations   s = max |v| / (hi - z) over a few inputs, with the bound of a fused Clip
weights       s = max |w| / hi of each channel
biases        rounded to s_x s_w
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.quantization import IntegerRange, quantize
from dfqonnx.core.quantization_plan import (
    ActivationParameters,
    ActivationQuantizer,
    QuantizationParameters,
    QuantizationPlan,
    WeightParameters,
    WeightQuantizer,
)
from dfqonnx.errors import InternalError
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.passes.edit import get_constant

_SMALLEST = 1e-6
_LARGEST_BIAS = 2.0**24  # of a bias code: float32 holds all up to it exactly


def set_untrained_parameters(
    model: NormalizedModel, plan: QuantizationPlan, values: Mapping[str, NDArray[np.float32]]
) -> QuantizationParameters:
    """Return parameters for `plan`.

    `values` are those of the float network on a few inputs, for every quantized tensor by name.
    """
    activations = {q.name: _set_activation(q, values[q.tensor]) for q in plan.activations}
    weights = {w.node: _set_weight(model, w, activations[w.input].scale) for w in plan.weights}
    return QuantizationParameters(activations, weights)


def _set_activation(
    quantizer: ActivationQuantizer, value: NDArray[np.float32]
) -> ActivationParameters:
    if quantizer.unit is not None:
        value = np.maximum(value, -quantizer.unit)
        if quantizer.asymmetric:
            return _set_from_unit(quantizer, float(value.max(initial=0.0)))
    low, high = quantizer.grid.limits
    top = float(value.max(initial=0.0)) / high
    bottom = float(value.min(initial=0.0)) / low if low else 0.0
    scale = float(np.float32(max(top, bottom, _SMALLEST)))
    if quantizer.power_of_two:
        scale = float(np.exp2(np.ceil(np.log2(scale))))
    if quantizer.unit is not None:
        scale = float(np.float32(quantizer.unit / quantizer.steps(scale)))
    grid = quantizer.grid.below(quantizer.clip_max, scale)
    return ActivationParameters(scale, grid.zero_point, grid.lo, grid.hi)


def _set_from_unit(quantizer: ActivationQuantizer, top: float) -> ActivationParameters:
    """Return parameters whose smallest code means -unit and whose largest about `top`."""
    assert quantizer.unit is not None
    near = (top + quantizer.unit) / (quantizer.grid.hi - quantizer.grid.lo)
    scale = float(np.float32(quantizer.unit / quantizer.steps(near)))
    grid = quantizer.grid_of_unit(near).below(quantizer.clip_max, scale)
    return ActivationParameters(scale, grid.zero_point, grid.lo, grid.hi)


def _set_weight(
    model: NormalizedModel, quantizer: WeightQuantizer, input_scale: float
) -> WeightParameters:
    weight = _constant(model, quantizer.weight)
    others = tuple(axis for axis in range(weight.ndim) if axis != quantizer.axis)
    shape = [1] * weight.ndim
    shape[quantizer.axis] = -1
    bias = None if quantizer.bias is None else _constant(model, quantizer.bias).ravel()
    scale = np.abs(weight).max(axis=others, initial=_SMALLEST) / quantizer.grid.limits[1]
    if bias is not None and not quantizer.float_bias:
        scale = np.maximum(scale, np.abs(bias) / (input_scale * _LARGEST_BIAS))
    if not quantizer.per_channel:
        scale = np.full_like(scale, scale.max())
    if quantizer.power_of_two:
        scale = np.exp2(np.ceil(np.log2(scale)))
    scale = scale.astype(np.float32)
    codes = quantize(weight, scale.reshape(shape), quantizer.grid)
    container = np.int8 if quantizer.grid.lo < 0 else np.uint8
    if bias is None:
        return WeightParameters(codes.astype(container), scale, None)
    if quantizer.float_bias:
        return WeightParameters(codes.astype(container), scale, bias.astype(np.float32))
    whole = IntegerRange(32, -(2**30), 2**30, 0)
    rounded = quantize(bias.astype(np.float64), np.float32(input_scale) * scale, whole)
    return WeightParameters(codes.astype(container), scale, rounded.astype(np.int32))


def _constant(model: NormalizedModel, name: str) -> NDArray[np.float32]:
    array = get_constant(model.ir.graph.initializers.get(name))
    if array is None:
        raise InternalError(f"{name!r} is not a constant of the model; please report it")
    return np.asarray(array, np.float32)
