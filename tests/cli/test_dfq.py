"""`--recipe dfq`, end to end on a network with ReLU6, depthwise and PReLU layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.cli.conftest import Run
from tests.equalization.test_cross_layer import mobile


def test_the_file_carries_the_equalized_weights_and_no_ceiling(
    dfqonnx: Run, tmp_path: Path
) -> None:
    mobile(tmp_path, ceiling=60.0)
    words = ("--model", tmp_path / "mobile.onnx", "--bits", "8", "--preprocess", "cifar10")
    done = dfqonnx("run", *words, "--recipe", "dfq", "--out", "out", "--json")
    assert done.code == 0, done.err  # parity with the torch student is a gate of every run
    report = json.loads(done.out)
    assert report["agreement"]["synthetic"]["value"] > 0.8
    graph = onnx.load(tmp_path / "out" / "mobile.w8a8.onnx").graph
    codes = {t.name: t for t in graph.initializer}
    for node in graph.node:
        assert (
            node.op_type != "Clip" or numpy_helper.to_array(codes[node.input[1]]).dtype == np.uint8
        )
    assert sum(node.op_type == "Relu" for node in graph.node) >= 2  # ReLU6 is one now


def test_without_batchnorm_the_nearest_recipe_is_named(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("run", "--model", small, "--recipe", "dfq", "--preprocess", "zero-one")
    assert done.code == 2
    assert "needs statistics" in done.err
    assert "--recipe ptq" in done.err
