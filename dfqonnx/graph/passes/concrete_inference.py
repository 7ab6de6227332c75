"""Walk the graph with one concrete batch size: every type, shape and computable constant.

Two walks with different batch sizes tell what depends on the batch: a constant or dimension that
is the same in both does not; a dimension equal to the batch in both is the batch axis. So the
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
from dfqonnx.graph.passes.edit import constant

_SHAPE_DATA = 64  # constants up to this size are shown to shape inference
_INFERENCE_ERRORS = (
    RuntimeError,
    ValueError,
    shape_inference.InferenceError,
    checker.ValidationError,
)
_MAX_BYTES = 1 << 27  # constants are not grown beyond this


@dataclass
class ConcreteValues:
    """What is known of each value at one batch size.

    Attributes:
        batch: the batch size.
        types: element type and shape.
        constants: what can be computed without running the network.
    """

    batch: int
    types: dict[ir.Value, onnx.TypeProto] = field(default_factory=dict)
    constants: dict[ir.Value, NDArray[Any]] = field(default_factory=dict)

    def shape(self, value: ir.Value | None) -> tuple[int, ...] | None:
        """Return the concrete shape; None when unknown."""
        kind = self.types.get(value) if value is not None else None
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        sizes = [d.dim_value for d in kind.tensor_type.shape.dim if d.HasField("dim_value")]
        return tuple(sizes) if len(sizes) == len(kind.tensor_type.shape.dim) else None

    def dtype(self, value: ir.Value) -> int:
        """Return the element type; 0 when unknown."""
        kind = self.types.get(value)
        return kind.tensor_type.elem_type if kind is not None else 0

    def set_constant(self, value: ir.Value, array: NDArray[Any]) -> None:
        """Record a constant and its type."""
        self.constants[value] = array
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.types[value] = helper.make_tensor_type_proto(dtype, array.shape)


def start(model: ir.Model, batch: int, sizes: Iterable[int]) -> ConcreteValues:
    """Return a probe that knows the input, of shape (batch, *sizes), and initializers."""
    probe = ConcreteValues(batch)
    for value in model.graph.inputs:
        shape = [batch, *sizes]
        probe.types[value] = helper.make_tensor_type_proto(int(value.dtype or 1), shape)
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is not None:
            probe.constants[value] = array
            assert value.const_value is not None
            probe.types[value] = helper.make_tensor_type_proto(
                int(value.const_value.dtype), array.shape
            )
    return probe


def walk(probe: ConcreteValues, nodes: Iterable[ir.Node], version: int) -> None:
    """Fill `probe` for `nodes`, which are in topological order."""
    for node in nodes:
        step(probe, node, version)


def step(probe: ConcreteValues, node: ir.Node, version: int) -> None:
    """Fill `probe` for the outputs of one node.

    Raises:
        UnsupportedModel: the shapes do not fit at this node.
    """
    if node.op_type == "Shape" and (shape := probe.shape(node.inputs[0])) is not None:
        first, last = node.attributes.get("start"), node.attributes.get("end")
        part = slice(first.as_int() if first else 0, last.as_int() if last else None)
        probe.set_constant(node.outputs[0], np.array(shape[part], dtype=np.int64))
        return
    if node.op_type == "Size" and (shape := probe.shape(node.inputs[0])) is not None:
        probe.set_constant(node.outputs[0], np.array(np.prod(shape), dtype=np.int64))
        return
    given = [i for i in node.inputs if i is not None]
    if any(i not in probe.types for i in given):
        return  # it stands behind a node that works on another batch only
    _infer(probe, node, version)
    if not has_trait(node.op_type, Trait.RANDOM) and all(i in probe.constants for i in given):
        _evaluate(probe, node, version)


def _evaluate(probe: ConcreteValues, node: ir.Node, version: int) -> None:
    size = sum(int(np.prod(probe.shape(o) or (0,))) * 4 for o in node.outputs)
    if size > _MAX_BYTES:
        return
    proto = ir.to_proto(node)
    feeds = {str(i.name): probe.constants[i] for i in node.inputs if i is not None}
    try:
        results = ReferenceEvaluator(proto, opsets={"": version}).run(None, feeds)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, KeyError):
        return  # it stays a node; placement and convert judge it
    for value, array in zip(node.outputs, results, strict=False):
        if isinstance(array, (np.ndarray, np.generic)):
            probe.set_constant(value, np.asarray(array))


def _infer(probe: ConcreteValues, node: ir.Node, version: int) -> None:
    schema = defs.get_schema(node.op_type, version)
    proto = ir.to_proto(node)
    types = {str(i.name): probe.types[i] for i in node.inputs if i is not None and i in probe.types}
    data = {
        str(i.name): numpy_helper.from_array(probe.constants[i], i.name)
        for i in node.inputs
        if i is not None and i in probe.constants and probe.constants[i].size <= _SHAPE_DATA
    }
    imports = [helper.make_opsetid("", version)]
    try:
        found = shape_inference.infer_node_outputs(
            schema, proto, types, input_data=data, opset_imports=imports
        )
    except _INFERENCE_ERRORS as error:
        raise UnsupportedModel(
            "the shapes of this model do not fit together:",
            [
                Offense(
                    node.name or str(node.outputs[0].name),
                    node.op_type,
                    _reason(error),
                    "if its batch size is fixed, export it with a free batch axis",
                )
            ],
        ) from None
    for value in node.outputs:
        if value.name in found:
            probe.types[value] = found[value.name]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "shape inference failed"
