"""What a network costs: multiply-adds and parameters per node, and the size of the exported file.

    Conv            N O h w (I/g) kh kw          multiply-adds; (O, I/g, kh, kw) the weight
    ConvTranspose   N I h w (O/g) kh kw          h, w of its input; (I, O/g, kh, kw) the weight
    Gemm, MatMul    outputs times the length of one row of the weight

Counts are for one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from dfqonnx.core.layer_analysis import GraphNode
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant, get_producer, get_shape
from dfqonnx.graph.passes.input_sizes import get_concrete_shape
from dfqonnx.targets.profile import TARGETS

_PER_CHANNEL = 4 + 4 + 4 + 1  # scale, bias codes, bias scale, zero point
_PER_QUANTIZER = 150  # QuantizeLinear, Clip, DequantizeLinear with scale and zero point
_PER_LAYER = 200  # Cast and DequantizeLinear of weight and bias
_PER_NODE = 40


@dataclass(frozen=True)
class Cost:
    """One node: its multiply-adds for one image and how many parameters it owns."""

    node: str
    op: str
    multiply_adds: int
    parameters: int


def estimate_costs(model: NormalizedModel) -> tuple[Cost, ...]:
    """Return the cost of every node that multiplies or owns parameters, in graph order."""
    found = []
    for node in model.ir.graph:
        parameters = sum(_size(value) for value in node.inputs)
        products = _multiply_adds(node)
        if products or parameters:
            found.append(Cost(str(node.name), node.op_type, products, parameters))
    return tuple(found)


def _size(value: ir.Value | None) -> int:
    array = get_constant(value)
    return 0 if array is None or array.dtype.kind != "f" else array.size


def _multiply_adds(node: ir.Node) -> int:
    if not has_trait(node.op_type, Trait.WEIGHTED):
        return 0
    weight = [d for d in get_shape(node.inputs[1]) or () if isinstance(d, int)]
    if node.op_type == "MatMul":
        return _per_image(node.outputs[0]) * math.prod(weight[-2:-1])
    counted = node.inputs[0] if node.op_type == "ConvTranspose" else node.outputs[0]
    return _per_image(counted) * math.prod(weight[1:])


def _per_image(value: ir.Value | None) -> int:
    shape = get_concrete_shape(value) or ()
    return math.prod(d for d in shape[1:] if isinstance(d, int))


def summarize_graph(model: NormalizedModel) -> tuple[GraphNode, ...]:
    """Return every node in graph order, with what it reads and what it costs."""
    by_node = {cost.node: cost for cost in estimate_costs(model)}
    found = []
    for node in model.ir.graph:
        name = str(node.name)
        makers = [get_producer(node, index) for index in range(len(node.inputs))]
        cost = by_node.get(name, Cost(name, node.op_type, 0, 0))
        found.append(
            GraphNode(
                node=name,
                op=node.op_type,
                reads=tuple(dict.fromkeys(str(maker.name) for maker in makers if maker)),
                multiply_adds=cost.multiply_adds,
                parameters=cost.parameters,
            )
        )
    return tuple(found)


def estimate_file_size(
    model: NormalizedModel, plan: QuantizationPlan, quant: QuantizationConfig
) -> int:
    """Estimate the size of the exported file.

    Weights are counted exactly, names as the model has them, quantizers at a flat rate: within 6 %
    of the file for the classifiers tried.
    """
    initializers = model.ir.graph.initializers
    quantized = {name for w in plan.weights for name in (w.weight, w.bias) if name}
    target, total = TARGETS[plan.target], 0
    for weight in plan.weights:
        shape = [d for d in get_shape(initializers[weight.weight]) or () if isinstance(d, int)]
        packing = target.packing_of(weight.grid, quant.weight_storage)
        total += math.ceil(math.prod(shape) * (packing.bits / 8 if packing is not None else 1))
        total += shape[weight.axis] * _PER_CHANNEL + _PER_LAYER
    total += _PER_QUANTIZER * (len(plan.activations) + len(plan.shared))
    for name, value in initializers.items():
        array = get_constant(value)
        if name not in quantized and array is not None:
            total += array.nbytes + _PER_NODE
    for node in model.ir.graph:
        names = [v.name or "" for v in (*node.inputs, *node.outputs) if v is not None]
        total += _PER_NODE + len(node.name or "") + sum(map(len, names))
    return total
