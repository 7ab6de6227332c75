"""Decoded detections that are rows of one matrix, the batch fixed to 1: boxes, no classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfqonnx.convert.module import ProgramModule
from dfqonnx.evaluation.outputs import compare_output
from dfqonnx.workflows.resolve_inputs import find_available_needs
from dfqonnx.workflows.teacher import open_program
from tests.contracts.nets import Builder
from tests.contracts.pipeline import check_contract, quantize


def _detector(how: str) -> onnx.ModelProto:
    """Two maps with 2 anchors a pixel; boxes (40, 4) and scores (40, 3) without a batch axis."""
    b = Builder(seed=1)
    y = b.conv_relu(b.conv_relu("x", 3, 8, strides=[2, 2]), 8, 16, strides=[2, 2])
    maps = [(y, 4), (b.conv_relu(y, 16, 16, strides=[2, 2]), 2)]
    found = []
    for numbers in (4, 3):
        parts = []
        for z, size in maps:
            map_ = b.op("Transpose", b.conv(z, 16, 2 * numbers, 1), perm=[0, 2, 3, 1])
            rows = -1 if how == "open rows" else 2 * size**2
            target = [1, rows, numbers] if how == "squeezed" else [rows, numbers]
            parts.append(b.op("Reshape", map_, b.constant(np.array(target))))
        joined = b.op("Concat", *parts, axis=-2)
        if how == "squeezed":
            joined = b.op("Squeeze", joined, b.constant(np.array([0])))
        found.append(joined)
    anchors = b.constant(b.draw.uniform(0, 1, (40, 4)).astype(np.float32))
    boxes = b.op("Add", b.op("Mul", found[0], b.constant(np.float32(0.1))), anchors)
    return b.model([boxes, b.op("Sigmoid", found[1])], [1, 3, 16, 16])


@pytest.mark.parametrize("how", ["rows", "open rows", "squeezed"])
def test_rows_of_boxes_are_values_and_trained_in_front_of_their_decoding(
    how: str, tmp_path: Path
) -> None:
    proto = _detector(how)
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    assert len(found.plan.weights) == 7
    shapes = {str(v.name): v.shape for node in found.model.ir.graph for v in node.outputs}
    for name in found.model.training_outputs:
        shape = shapes[name]
        assert shape is not None
        assert str(shape[0]) == "N"
        assert len(shape) > 2
    assert "classes" not in find_available_needs(found.model)
    assert min(found.sqnr_db.values()) > 25  # measured 46 and more


def test_rows_of_a_last_gemm_are_no_classes_either(tmp_path: Path) -> None:
    """One Gemm for all pixels: it is a layer, so its rows are what is trained."""
    b = Builder()
    y = b.op("Transpose", b.conv_relu("x", 3, 8, strides=[4, 4]), perm=[0, 2, 3, 1])
    rows = b.op("Reshape", y, b.constant(np.array([16, 8])))
    proto = b.model(b.op("Gemm", rows, b.noise(6, 8), b.noise(6), transB=1), [1, 3, 16, 16])
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    assert len(found.plan.weights) == 2
    assert "classes" not in find_available_needs(found.model)
    _, program = open_program(tmp_path / "net.onnx")
    logits, _ = ProgramModule(program)(torch.zeros(5, 3, 16, 16))
    assert logits.shape == (5, 16, 6)
    assert min(found.sqnr_db.values()) > 25  # measured 43


def test_several_rows_to_an_image_are_compared_as_values() -> None:
    draw = np.random.default_rng(0)
    teacher = draw.normal(size=(80, 6))
    student = teacher + 0.01 * draw.normal(size=teacher.shape)
    assert compare_output("y", teacher, student, (3, 16, 16), inputs=2).kind == "values"
    assert compare_output("y", teacher, student, (3, 16, 16), inputs=80).kind == "classes"
