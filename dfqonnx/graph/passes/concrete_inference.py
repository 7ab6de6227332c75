"""Infer every type, shape and computable constant of the graph at one concrete batch size.

Two inferences with different batch sizes tell what depends on the batch: a constant or dimension
that is the same in both does not; a dimension equal to the batch in both is the batch axis. So the
Shape -> Gather -> Concat -> Reshape arithmetic of legacy exporters needs no rules of its own.

Shapes come from the onnx package's per-node inference, constants from its reference evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import checker, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant

_TEXT = "SUO"  # kinds of arrays that hold names of classes: handed on, never computed with
_SHAPE_DATA = 64  # constants up to this size are shown to shape inference
_INFERENCE_ERRORS = (
    RuntimeError,
    ValueError,
    shape_inference.InferenceError,
    checker.ValidationError,
)
_MAX_BYTES = 1 << 27  # larger constants are not computed


@dataclass
class ConcreteValues:
    """What is known of each value at one batch size."""

    batch: int
    types: dict[ir.Value, onnx.TypeProto] = field(default_factory=dict)  # element type and shape
    constants: dict[ir.Value | None, NDArray[Any]] = field(default_factory=dict)

    def shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Return the concrete shape; None when unknown."""
        kind = self.types.get(value) if value is not None else None
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        axes = kind.tensor_type.shape.dim
        known = all(axis.HasField("dim_value") for axis in axes)
        return tuple(axis.dim_value for axis in axes) if known else None

    def dtype(self, value: ir.Value) -> int:
        """Return the element type; 0 when unknown."""
        kind = self.types.get(value)
        return kind.tensor_type.elem_type if kind is not None else 0

    def set_constant(self, value: ir.Value, array: NDArray[Any]) -> None:
        """Record a constant and its type."""
        self.constants[value] = array
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.types[value] = helper.make_tensor_type_proto(dtype, array.shape)

    def forget(self, values: Iterable[ir.Value]) -> None:
        """Drop what is known of some values."""
        for value in values:
            self.types.pop(value, None)
            self.constants.pop(value, None)


Inferred = tuple[ConcreteValues, ConcreteValues]  # at a small and at a large batch


def start_inference(model: ir.Model, batch: int, sizes: Iterable[int]) -> ConcreteValues:
    """Return what is known of the input, of shape (batch, *sizes), and of initializers."""
    known = ConcreteValues(batch)
    for value in model.graph.inputs:
        shape = [batch, *sizes]
        known.types[value] = helper.make_tensor_type_proto(int(value.dtype or 1), shape)
    for value in model.graph.initializers.values():
        array, tensor = get_constant(value), value.const_value
        if array is not None:
            known.constants[value] = array
        if tensor is not None:
            known.types[value] = helper.make_tensor_type_proto(
                int(tensor.dtype), tensor.shape.numpy()
            )
    return known


def infer_node(known: ConcreteValues, node: ir.Node, version: int) -> None:
    """Add what is known of the outputs of one node; the nodes before it come first."""
    shape = known.shape(node.inputs[0]) if node.inputs else None
    if node.op_type == "Shape" and shape is not None:
        end = node.attributes.get("end")
        part = slice(node.attributes.get_int("start", 0), end.as_int() if end else None)
        known.set_constant(node.outputs[0], np.array(shape[part], dtype=np.int64))
        return
    if node.op_type == "Size" and shape is not None:
        known.set_constant(node.outputs[0], np.array(np.prod(shape), dtype=np.int64))
        return
    given = [i for i in node.inputs if i is not None]
    if any(i not in known.types for i in given):
        return  # it stands behind a node that works on another batch only
    _infer_types(known, node, version)
    if not has_trait(node.op_type, Trait.RANDOM) and all(i in known.constants for i in given):
        _evaluate(known, node, version)


def _evaluate(known: ConcreteValues, node: ir.Node, version: int) -> None:
    size = sum(int(np.prod(known.shape(o) or (0,))) * 4 for o in node.outputs)
    if size > _MAX_BYTES:
        return
    feeds = {str(i.name): known.constants[i] for i in node.inputs if i is not None}
    try:
        with np.errstate(all="ignore"):  # `graph/checks` refuses what is not finite
            results = ReferenceEvaluator(ir.to_proto(node), opsets={"": version}).run(None, feeds)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, KeyError):
        return  # it stays a node; placement and convert judge it
    for value, array in zip(node.outputs, results, strict=False):
        if isinstance(array, (np.ndarray, np.generic)) and array.dtype.kind not in _TEXT:
            known.set_constant(value, np.asarray(array))


def _infer_types(known: ConcreteValues, node: ir.Node, version: int) -> None:
    given = [i for i in node.inputs if i is not None]
    data = {
        str(i.name): numpy_helper.from_array(known.constants[i], i.name)
        for i in given
        if i in known.constants and known.constants[i].size <= _SHAPE_DATA
    }
    try:
        found = shape_inference.infer_node_outputs(
            defs.get_schema(node.op_type, version),
            ir.to_proto(node),
            {str(i.name): known.types[i] for i in given if i in known.types},
            input_data=data,
            opset_imports=[helper.make_opsetid("", version)],
        )
    except _INFERENCE_ERRORS as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        name, reason = node.name or str(node.outputs[0].name), "shape inference failed"
        advice = "if its batch size is fixed, export it with a free batch axis"
        offense = Offense(name, node.op_type, lines[0] if lines else reason, advice)
        raise UnsupportedModel("the shapes of this model do not fit together:", [offense]) from None
    for value in node.outputs:
        if value.name in found:
            known.types[value] = found[value.name]
