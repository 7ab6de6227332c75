"""Activations that exporters write as several nodes become the one operator that they are.

    x clip(x + 3, 0, 6) / 6  =  x HardSigmoid(x; 1/6, 1/2)                     = HardSwish(x)
    x / 2 (1 + erf(x / sqrt 2))                                                = Gelu(x)
    x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))                          = Gelu(x), tanh
    x sigmoid(x), written as Swish                                             = Mul(x, Sigmoid(x))
    z / (1 + exp(-x))                                                          = Mul(z, Sigmoid(x))
    x tanh(log(1 + exp(x)))                                                    = Mish(x)

in any order and nesting of the factors. The one operator means one quantizer where there would be
five, and lets a runtime take its own kernel.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.merge_clips import get_clip_bounds
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes
from dfqonnx.graph.passes.products import Product, is_near, is_product, read_product, read_sum

_CUBIC = 0.044715  # of the tanh form (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016)


def recognize_activations(model: ir.Model) -> PassResult:
    """Replace every activation in pieces; the whole of an expression is tried first."""
    return rewrite_nodes(model, _recognize, _split_swish, _join_sigmoid, reverse=True)


def _recognize(node: ir.Node) -> Outcome:
    if not is_product(node):
        return False
    product = read_product(node.outputs[0])
    if len(product.factors) != 2:
        return False
    for x, gate in (product.factors, product.factors[::-1]):
        scale = product.constant
        if is_near(scale, _hard_gate(x, gate)):
            return _replace(node, "HardSwish", x)
        form, factor = _gelu_form(x, gate)
        if form and is_near(scale * factor, 0.5):
            return _replace(node, "Gelu", x, approximate=form)
        if is_near(scale, 1.0) and _is_mish_gate(x, gate):
            return _replace(node, "Mish", x)
    return False


def _replace(node: ir.Node, op: str, x: ir.Value, **attributes: str) -> bool:
    new = edit.derive_node(node, op, [x])
    for name, text in attributes.items():
        new.attributes[name] = ir.AttrString(name, text)
    pieces = node.inputs
    edit.replace_node(node, new)
    edit.remove_unread(pieces)
    return True


def _hard_gate(x: ir.Value, gate: ir.Value) -> float:
    """Return the constant that makes x times `gate` a HardSwish; not a number for another gate."""
    node = gate.producer()
    if node is None:
        return math.nan
    if node.op_type == "HardSigmoid" and node.inputs[0] is x:
        alpha = node.attributes.get_float("alpha", 0.2)
        beta = node.attributes.get_float("beta", 0.5)
        return 1.0 if is_near(alpha, 1 / 6) and is_near(beta, 0.5) else math.nan
    inner, top = _read_clip(gate)
    slope, offset = _read_line(x, inner)
    if not slope > 0 or not is_near(offset, 3.0 * slope) or not is_near(top, 6.0 * slope):
        return math.nan
    return 1 / top


def _read_line(x: ir.Value, value: ir.Value | None) -> tuple[float, float]:
    """Return a and b of a value a x + b, b not 0; not numbers for any other value."""
    if value is None:
        return math.nan, math.nan
    outer = read_product(value)
    found = read_sum(outer.factors[0]) if len(outer.factors) == 1 else None
    if found is None:
        return math.nan, math.nan
    inner = read_product(found[0], depth=1)
    if inner.factors != (x,):
        return math.nan, math.nan
    return outer.constant * inner.constant, outer.constant * found[1]


def _read_clip(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return (z, c) of a value min(max(z, 0), c), written with Clip, Relu, Min or Max."""
    low, high = -math.inf, math.inf
    for _ in range(2):
        node = None if value is None else value.producer()
        bounds = None if node is None else _read_bounds(node)
        if node is None or bounds is None:
            break
        (below, above), index = bounds
        low, high, value = max(low, below), min(high, above), node.inputs[index]
    return (value, high) if low == 0.0 else (None, math.nan)


def _read_bounds(node: ir.Node) -> tuple[tuple[float, float], int] | None:
    """Return the bounds of a clamp by constants, and which input it clamps."""
    if node.op_type == "Relu":
        return (0.0, math.inf), 0
    if node.op_type == "Clip":
        limits = get_clip_bounds(node)
        return None if limits is None else (limits, 0)
    if has_trait(node.op_type, Trait.EXTREMUM) and len(node.inputs) == 2:
        for index in (0, 1):
            array = edit.get_constant(node.inputs[index])
            if array is not None and array.size == 1:
                bound = float(array.reshape(-1)[0])
                limits = (-math.inf, bound) if node.op_type == "Min" else (bound, math.inf)
                return limits, 1 - index
    return None


def _gelu_form(x: ir.Value, gate: ir.Value) -> tuple[str, float]:
    """Return (`none`, k) where `gate` is k (1 + erf) of a Gelu of x, `tanh` for tanh; else ""."""
    found = read_sum(gate)
    product = None if found is None else read_product(found[0], depth=1)
    if found is None or product is None or len(product.factors) != 1:
        return "", 0.0
    factor, node = product.constant, product.factors[0].producer()
    if node is None or not is_near(found[1], factor) or not node.inputs or node.inputs[0] is None:
        return "", 0.0
    inner = read_product(node.inputs[0])
    if node.op_type == "Erf" and inner.factors == (x,) and is_near(inner.constant, 0.5**0.5):
        return "none", factor
    if node.op_type == "Tanh" and is_near(inner.constant, (2 / math.pi) ** 0.5):
        return ("tanh", factor) if _is_cubic(x, inner) else ("", 0.0)
    return "", 0.0


def _is_mish_gate(x: ir.Value, gate: ir.Value) -> bool:
    """Tell whether `gate` is tanh(softplus(x))."""
    plus = _read_operand(gate, "Tanh")
    if plus is not None and _read_operand(plus, "Softplus") is x:
        return True
    found = read_sum(_read_operand(plus, "Log"))
    return found is not None and is_near(found[1], 1.0) and _read_operand(found[0], "Exp") is x


def _read_operand(value: ir.Value | None, op: str) -> ir.Value | None:
    """Return what the operator `op` that makes `value` reads; None where another one does."""
    node = None if value is None else value.producer()
    return node.inputs[0] if node is not None and node.op_type == op else None


def _join_sigmoid(node: ir.Node) -> Outcome:
    """Write z / (1 + exp(-x)) with a Sigmoid."""
    found = read_sum(node.inputs[1]) if node.op_type == "Div" else None
    power = None if found is None else _read_operand(found[0], "Exp")
    if found is None or power is None or not is_near(found[1], 1.0):
        return False
    x, z, out = _read_operand(power, "Neg"), node.inputs[0], node.outputs[0]
    if x is None:
        negative = read_product(power)
        if len(negative.factors) != 1 or not is_near(negative.constant, -1.0):
            return False
        (x,) = negative.factors
    one, shape, pieces = edit.get_constant(z), edit.get_shape(x), node.inputs
    gate = ir.node("Sigmoid", [x])
    if one is not None and one.size == 1 and is_near(float(one.reshape(-1)[0]), 1.0):
        gate = edit.derive_node(node, "Sigmoid", [x])
        edit.replace_node(node, gate)
    elif shape is None:
        return "the shape of what it reads is not known"
    else:
        edit.set_output(gate, f"{out.name}/gate", x.type, shape)
        edit.replace_node(node, gate, edit.derive_node(node, "Mul", [z, gate.outputs[0]]))
    edit.remove_unread(pieces)
    return True


def _is_cubic(x: ir.Value, product: Product) -> bool:
    """Tell whether the factors are x + 0.044715 x^3, or x and 1 + 0.044715 x^2."""
    if len(product.factors) == 2 and x in product.factors:
        (square,) = [f for f in product.factors if f is not x] or [x]
        found = read_sum(square)
        return found is not None and is_near(found[1], 1.0) and _is_power(x, found[0], 2)
    node = product.factors[0].producer() if len(product.factors) == 1 else None
    if node is None or node.op_type != "Add" or x not in node.inputs:
        return False
    (cube,) = [value for value in node.inputs if value is not x] or [None]
    return cube is not None and _is_power(x, cube, 3)


def _is_power(x: ir.Value, value: ir.Value, degree: int) -> bool:
    """Tell whether a value is 0.044715 times a power of x."""
    product = read_product(value)
    count = 0
    for factor in product.factors:
        node = factor.producer()
        exponent = None if node is None else edit.get_constant_input(node, 1)
        if factor is x:
            count += 1
        elif (
            node is not None
            and node.op_type == "Pow"
            and node.inputs[0] is x
            and exponent is not None
            and exponent.size == 1
        ):
            count += int(exponent.reshape(-1)[0])
        else:
            return False
    return count == degree and is_near(product.constant, _CUBIC)


def _split_swish(node: ir.Node) -> Outcome:
    """Write Swish as a product with a Sigmoid, which runtimes have integer kernels for."""
    x = node.inputs[0] if node.inputs else None
    if node.op_type != "Swish" or x is None or node.graph is None:
        return False
    alpha, out = node.attributes.get_float("alpha", 1.0), node.outputs[0]
    shape, nodes, source = edit.get_shape(x), [], x
    if shape is None:
        return "the shape of what it reads is not known"
    if alpha != 1.0:
        number = edit.add_initializer(node.graph, f"{out.name}/alpha", np.array(alpha, np.float32))
        nodes.append(ir.node("Mul", [x, number]))
        edit.set_output(nodes[-1], f"{out.name}/scaled", x.type, shape)
        source = nodes[-1].outputs[0]
    gate = ir.node("Sigmoid", [source])
    edit.set_output(gate, f"{out.name}/gate", x.type, shape)
    edit.replace_node(node, *nodes, gate, edit.derive_node(node, "Mul", [x, gate.outputs[0]]))
    return True
