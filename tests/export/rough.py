"""Scales good enough to exercise export: min-max of a few batches, no training, no torch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from dfqonnx.core.quantization_plan import (
    ActivationParameters,
    ActivationQuantizer,
    QuantizationParameters,
    QuantizationPlan,
    WeightParameters,
    WeightQuantizer,
)
from dfqonnx.graph.model import NormalizedModel


def run_floats(model: NormalizedModel, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every value of the float model."""
    copy = model.ir.clone()
    copy.graph.outputs[:] = [v for node in copy.graph for v in node.outputs if v.name]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(copy).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {model.input: x}), strict=True))
    return found | {model.input: x}


def rough_params(
    model: NormalizedModel, plan: QuantizationPlan, x: NDArray[np.float32], *, share: float = 0.9
) -> QuantizationParameters:
    """Return parameters whose ranges reach `share` of the largest magnitude seen."""
    values = run_floats(model, x)
    activations = {s.name: _activation(s, values[s.tensor], share) for s in plan.activations}
    weights = {}
    for site in plan.weights:
        weights[site.node] = _weight(model, site, activations[site.input].scale)
    return QuantizationParameters(activations, weights)


def _activation(
    site: ActivationQuantizer, value: NDArray[np.float32], share: float
) -> ActivationParameters:
    grid = site.grid
    top = max(float(np.abs(value).max()) * share, 1e-3)
    scale = float(np.float32(top / (grid.hi - grid.zero_point)))
    hi = grid.hi if site.clip_max is None else min(grid.hi, round(site.clip_max / scale))
    return ActivationParameters(scale, grid.zero_point, grid.lo, hi)


def _weight(model: NormalizedModel, site: WeightQuantizer, input_scale: float) -> WeightParameters:
    weight = model.ir.graph.initializers[site.weight].const_value.numpy()
    others = tuple(i for i in range(weight.ndim) if i != site.axis)
    shape = [1] * weight.ndim
    shape[site.axis] = -1
    largest = np.maximum(np.abs(weight).max(axis=others), 1e-6)
    scale = (largest / max(site.grid.hi, 1)).astype(np.float32)
    codes = np.clip(np.rint(weight / scale.reshape(shape)), site.grid.lo, site.grid.hi)
    bias = None
    if site.bias is not None:
        real = model.ir.graph.initializers[site.bias].const_value.numpy()
        bias = np.rint(real / (np.float32(input_scale) * scale)).astype(np.int32)
    return WeightParameters(codes.astype(np.int8), scale, bias)
