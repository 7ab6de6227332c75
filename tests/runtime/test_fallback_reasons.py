"""Reasons of nodes that stay in float, read from a file's graph."""

from __future__ import annotations

from onnx import helper

from dfqonnx.runtime.fallback_reasons import Context
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU


def test_a_chain_of_activations_may_be_longer_than_the_stack_is_deep() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3000)]
    nodes.append(helper.make_node("QuantizeLinear", ["v3000", "s"], ["q"]))
    proto = helper.make_model(helper.make_graph(nodes, "net", [], []))
    assert Context(proto, ONNXRUNTIME_CPU).quantized_after("v0")
