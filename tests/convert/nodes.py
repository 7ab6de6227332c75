"""ONNX's own backend node tests, and one-node models."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from dfqonnx.convert import op_registry as registry
from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.tensors import from_numpy

COMPOSED = "several operators"


@functools.cache
def backend_cases() -> Mapping[str, tuple[Any, ...]]:
    """Every case whose operators are all registered, by operator (or COMPOSED)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        import onnx.backend.test.case.node as node_cases

        cases = node_cases.collect_testcases()
    found: dict[str, list[Any]] = {}
    for case in cases:
        opsets = {entry.domain: entry.version for entry in case.model.opset_import}
        nodes = list(case.model.graph.node)
        if all(
            n.domain in opsets and registry.find(n.domain, n.op_type, opsets[n.domain])
            for n in nodes
        ):
            kinds = {n.op_type for n in nodes}
            found.setdefault(kinds.pop() if len(kinds) == 1 else COMPOSED, []).append(case)
    return {name: tuple(group) for name, group in found.items()}


def run(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Translate and evaluate."""
    program = program_from_ir(ir.serde.deserialize_model(model))
    net = ProgramModule(program, outputs=program.outputs)
    with torch.no_grad():
        results, _ = net(*(from_numpy(array(x)) for x in inputs))
    return [to_numpy(result) for result in results]


def array(value: Any) -> Any:
    """Backend data sets hold arrays or TensorProtos."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    import ml_dtypes

    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def one_node(
    op: str, *, opset: int, inputs: Sequence[np.ndarray | None], outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node whose first input is fed and whose others are initializers."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
    node = onnx.helper.make_node(
        op, names, [f"y{i}" for i in range(outputs)], name="node", **attributes
    )
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(v.dtype) for v in inputs if v is not None]
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("x0", kinds[0], inputs[0].shape)],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
        [
            onnx.numpy_helper.from_array(value, name)
            for name, value in zip(names[1:], inputs[1:], strict=True)
            if value is not None
        ],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7
    )
