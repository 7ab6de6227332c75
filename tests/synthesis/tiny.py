"""A three-layer network whose BatchNormalization statistics are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.program import Program
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, gaussian_distance, moments


def tiny(
    folder: Path, *, norm: bool = True, layout: str = "NCHW", channels: int = 3
) -> NormalizedModel:
    """Conv -> (BatchNormalization) -> Relu -> pool -> Gemm on 16x16 images, 5 classes."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(0, 0.3, (6, channels, 3, 3)),
        "b": rng.normal(0, 0.3, 6),
        "g": rng.uniform(0.5, 1.5, 6),
        "beta": rng.normal(0, 0.3, 6),
        "mu": rng.normal(0, 0.2, 6),
        "var": rng.uniform(0.5, 1.5, 6),
        "w2": rng.normal(0, 1.0, (6, 5)),
        "b2": rng.normal(0, 0.1, 5),
    }
    image = [channels, 16, 16] if layout == "NCHW" else [16, 16, channels]
    nodes, read = [], "x"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 3, 1, 2]))
        read = "xt"
    nodes.append(helper.make_node("Conv", [read, "w", "b"], ["c"], pads=[1, 1, 1, 1]))
    if norm:
        nodes.append(helper.make_node("BatchNormalization", ["c", "g", "beta", "mu", "var"], ["n"]))
    nodes += [
        helper.make_node("Relu", ["n" if norm else "c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"]),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *image])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in arrays.items()
            if name in used
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"tiny-{norm}-{layout}-{channels}.onnx"
    onnx.save(proto, path)
    return normalize(load(path))


def program(model: NormalizedModel) -> Program:
    """Return the model's torch program."""
    return to_program(model)


def statistics_kl(targets: BatchNormTargets, taps: Mapping[str, Tensor]) -> float:
    """KL(batch || training data) of channel statistics, mean over channels, then over layers."""
    pairs = targets.pairs(taps)
    found = [gaussian_distance(*moments(y), *known).mean() for y, known in pairs]
    return torch.stack(found).mean().item()
