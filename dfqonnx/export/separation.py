"""Nodes kept apart from the quantizers around them, so that the runtime computes what they say.

    DequantizeLinear -- Softmax -- QuantizeLinear              fused: codes of its integer kernel
    DequantizeLinear -- Sum -- Softmax -- QuantizeLinear       not fused: the numbers of the file

    DequantizeLinear -- Gemm -- Relu -- Softmax                  Gemm in float
    DequantizeLinear -- Gemm -- Sum -- Relu -- Softmax           an integer Gemm with float output

    Exp -- Mul                      one piece for an accelerator, which may fail to compile it
    Exp -- Sum -- Mul               two pieces

In the second pair the Relu, which no quantizer takes over, keeps the Gemm from its kernel.

A Sum of one operand is that operand. ONNX Runtime's optimizations know it neither as superfluous
nor as a part of what they fuse, and it costs one copy.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from dfqonnx.core.quantization_plan import SEPARATOR_PREFIX
from dfqonnx.export.graph_editor import GraphEditor

_OPERANDS = 2  # operands whose quantizers are fused with a node; a bias is not one of them


def separate_nodes(editor: GraphEditor, names: Iterable[str]) -> None:
    """Put a Sum between each of the nodes `names` and what dequantizes its operands.

    A node that nobody quantizes behind, or that reads no codes, stays as it is.
    """
    nodes = {node.name: node for node in editor.graph if node.name}
    for name in names:
        node = nodes.get(name)
        if node is None or not _quantized_behind(node, editor.target.absorbed):
            continue
        for index, value in enumerate(node.inputs[:_OPERANDS]):
            maker = None if value is None else value.producer()
            if value is None or maker is None or maker.op_type != "DequantizeLinear":
                continue
            label = SEPARATOR_PREFIX + name + ("" if index == 0 else f":{index}")
            separator = editor.node("Sum", [value], name=label)
            editor.graph.insert_before(node, separator)
            node.replace_input_with(index, separator.outputs[0])


def separate_activations(editor: GraphEditor, names: Iterable[str]) -> None:
    """Put a Sum behind each of the layers `names` whose activation no quantizer takes over."""
    nodes = {node.name: node for node in editor.graph if node.name}
    for name in names:
        node = nodes[name]
        value, kernel = node.outputs[0], editor.target.kernels.get(node.op_type)
        readers = [reader for reader, _ in value.uses()]
        if node.op_type not in editor.target.separated or value.is_graph_output():
            continue
        if kernel is None or kernel.output == "always":
            continue
        if len(readers) != 1 or readers[0].op_type not in editor.target.absorbed:
            continue
        behind = [reader.op_type for reader, _ in readers[0].outputs[0].uses()]
        if behind and "QuantizeLinear" not in behind:
            separator = editor.node("Sum", [value], name=SEPARATOR_PREFIX + str(readers[0].name))
            editor.graph.insert_before(readers[0], separator)
            readers[0].replace_input_with(0, separator.outputs[0])


def separate_results(editor: GraphEditor) -> None:
    """Put a Sum behind each node that the target does not compile together with its readers."""
    for node in [each for each in editor.graph if each.op_type in editor.target.cut_behind]:
        value = node.outputs[0]
        readers = [(n, index) for n, index in value.uses() if n.op_type != "QuantizeLinear"]
        if not readers:
            continue
        separator = editor.node("Sum", [value], name=SEPARATOR_PREFIX + str(node.name))
        editor.graph.insert_after(node, separator)
        for reader, index in readers:
            reader.replace_input_with(index, separator.outputs[0])


def _quantized_behind(node: ir.Node, absorbed: frozenset[str]) -> bool:
    """Tell whether a QuantizeLinear reads the node, perhaps behind an absorbed activation."""
    for reader, _ in node.outputs[0].uses():
        if reader.op_type == "QuantizeLinear":
            return True
        if reader.op_type in absorbed and _quantized_behind(reader, frozenset()):
            return True
    return False
