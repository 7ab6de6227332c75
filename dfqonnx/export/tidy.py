"""Nothing in the file that no runtime reads.

Unused initializers, shapes of inner values and the stack traces that exporters leave on nodes go;
names of nodes and of the user's own values stay.
"""

from __future__ import annotations

import onnx_ir as ir


def tidy(model: ir.Model) -> None:
    """Strip `model` in place."""
    graph = model.graph
    ports = {*graph.inputs, *graph.outputs}
    for name in [n for n, v in graph.initializers.items() if not v.uses() and v not in ports]:
        del graph.initializers[name]
    for node in graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
            if value not in ports:
                value.shape, value.type = None, None
    for value in (*graph.initializers.values(), *ports):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = None
    model.functions.clear()
