"""Constant codes are shared between equal weights, unless a target keeps one scale for a tensor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dfqonnx.export.graph_editor import GraphEditor
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
