"""A product of several factors, however exporters nest and order it.

    Div(Mul(x, Clip(Add(x, 3), 0, 6)), 6)   ->   1/6 * x * Clip(Add(x, 3), 0, 6)

Nodes inside the product that somebody else reads are factors of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from dfqonnx.graph.passes import edit

_MAX_DEPTH = 16  # levels of nodes that make one product


@dataclass(frozen=True)
class Product:
    """A constant times computed values."""

    constant: float
    factors: tuple[ir.Value, ...]


def is_product(node: ir.Node) -> bool:
    """Tell whether a node multiplies or divides."""
    return node.op_type == "Mul" or node.op_type == "Div"


def read_product(value: ir.Value, *, depth: int = 0) -> Product:
    """Return `value` as a product, at `depth` in a larger one, of which few levels are read."""
    node = value.producer()
    if node is None or (depth and edit.get_only_consumer(value) is None) or depth > _MAX_DEPTH:
        return Product(1.0, (value,))
    if not is_product(node):
        return Product(1.0, (value,))
    constant = 1.0
    factors: list[ir.Value] = []
    for index, operand in enumerate(node.inputs):
        array = edit.get_constant(operand)
        if operand is None or (array is None and node.op_type == "Div" and index == 1):
            return Product(1.0, (value,))
        if array is None:
            part = read_product(operand, depth=depth + 1)
            constant *= part.constant
            factors += part.factors
        elif array.size != 1 or not array.all():
            return Product(1.0, (value,))
        else:
            number = float(array.reshape(-1)[0])
            constant *= number if node.op_type == "Mul" or index == 0 else 1 / number
    return Product(constant, tuple(factors))


def read_sum(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """Return (x, c) of a value x + c with one number c; None of any other."""
    node = None if value is None else value.producer()
    if node is None or (node.op_type != "Add" and node.op_type != "Sub"):
        return None
    for index, sign in ((1, 1.0 if node.op_type == "Add" else -1.0), (0, 1.0)):
        array, other = edit.get_constant(node.inputs[index]), node.inputs[1 - index]
        if array is not None and array.size == 1 and other is not None:
            if index == 0 and node.op_type == "Sub":
                return None
            return other, sign * float(array.reshape(-1)[0])
    return None


def is_near(number: float, wanted: float) -> bool:
    """Tell whether an exporter's number is the wanted one, written with four digits or more."""
    return abs(number - wanted) <= 1e-4 * abs(wanted)
