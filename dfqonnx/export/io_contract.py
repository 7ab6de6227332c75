"""The user's own inputs and outputs, put back on the edited graph.

Normalizing frees the batch axis; the exported file has the names, order, types and axes (fixed or
dynamic) that the user's file had, so that it takes the old one's place in a program unchanged.
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.graph.model import Contract, ValueInfo


def restore(editor: GraphEditor, contract: Contract) -> None:
    """Give the graph the inputs and outputs of `contract`."""
    graph = editor.graph
    inputs = {value.name: value for value in graph.inputs}
    outputs = {value.name: value for value in graph.outputs}
    lost = [p.name for p in contract.inputs if p.name not in inputs]
    lost += [p.name for p in contract.outputs if p.name not in outputs]
    if lost:
        raise InternalError(f"inputs or outputs lost on the way: {lost}; please report it")
    for port in contract.inputs:
        _cast_input(editor, inputs[port.name], port)
    graph.inputs[:] = [inputs[port.name] for port in contract.inputs]
    graph.outputs[:] = [_cast_output(editor, outputs[p.name], p) for p in contract.outputs]
    ports, values = (*contract.inputs, *contract.outputs), (*graph.inputs, *graph.outputs)
    for port, value in zip(ports, values, strict=True):
        value.type = ir.TensorType(ir.DataType(port.dtype))
        value.shape = None if port.shape is None else ir.Shape(port.shape)


def _cast_input(editor: GraphEditor, value: ir.Value, port: ValueInfo) -> None:
    if value.dtype is not None and value.dtype != port.dtype:
        cast = editor.node("Cast", [value], attributes={"to": int(value.dtype)})
        editor.after(value, [cast])
        editor.redirect(
            value, cast.outputs[0], only=frozenset(n.name or "" for n in value.consumers())
        )


def _cast_output(editor: GraphEditor, value: ir.Value, port: ValueInfo) -> ir.Value:
    if value.dtype is None or value.dtype == port.dtype or value.is_graph_input():
        return value  # an output that is an input has its type
    cast = editor.node("Cast", [value], attributes={"to": port.dtype})
    editor.graph.append(cast)
    cast.outputs[0].name, value.name = value.name, cast.outputs[0].name
    return cast.outputs[0]
