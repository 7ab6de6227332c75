"""Constant codes are shared between equal weights, unless a target keeps one scale for a tensor."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import onnx_ir as ir
import pytest

from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.number_operands import quantize_numbers
from dfqonnx.graph.passes.edit import get_constant
from dfqonnx.targets.profile import TARGETS, Packing
from tests.export.qnets import chain


def initializer_of(value: ir.Value) -> ir.Value | None:
    """What a value with codes is read from, before a Cast where there is one."""
    maker = value.producer()
    return value if maker is None else maker.inputs[0]


@pytest.mark.parametrize(
    ("target", "shared"), [("onnxruntime-cpu", True), ("onnxruntime-qnn", False)]
)
@pytest.mark.parametrize("packing", [None, Packing(bits=4, opset=21)], ids=["int8", "int4"])
def test_equal_codes_share_an_initializer_where_the_target_lets_them(
    target: str, shared: bool, packing: Packing | None
) -> None:
    graph = ir.serde.deserialize_model(chain().proto()).graph
    editor = GraphEditor(graph, TARGETS[target])
    codes = np.arange(-4, 4, dtype=np.int8).reshape(2, 4, 1, 1)
    first, second = (initializer_of(editor.codes(codes, packing=packing)[0]) for _ in range(2))
    assert first is not None
    assert (first is second) is shared


@pytest.mark.parametrize(("target", "shared"), [("openvino", True), ("onnxruntime-qnn", False)])
def test_numbers_share_a_code_where_the_target_lets_them(target: str, shared: bool) -> None:
    """Two numbers have one code, 1, and scales of their own."""
    adds = [
        oh.make_node("Add", ["x", "first"], ["y"], name="a"),
        oh.make_node("Add", ["y", "second"], ["z"], name="b"),
    ]
    numbers = [oh.make_tensor(n, 1, [], [v]) for n, v in (("first", 0.5), ("second", 3.0))]
    ends = [oh.make_tensor_value_info(name, 1, [1, 4, 2, 2]) for name in ("x", "z")]
    proto = oh.make_model(oh.make_graph(adds, "numbers", ends[:1], ends[1:], numbers))
    graph = ir.serde.deserialize_model(proto).graph
    plan = QuantizationPlan(activations=(), shared=(), weights=(), floats=(), target=target)
    quantize_numbers(GraphEditor(graph, TARGETS[target]), plan)
    made = [node for node in graph if node.op_type == "DequantizeLinear"]
    numbers_read = []
    for node in made:
        code, scale, zero = (np.float64(get_constant(value)) for value in node.inputs)
        numbers_read.append((code - zero) * scale)
    assert numbers_read == [0.5, 3.0]
    assert (made[0].inputs[0] is made[1].inputs[0]) is shared
