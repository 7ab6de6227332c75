"""Small networks in ONNX text with random weights, and ONNX Runtime as the judge of equality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from dfqonnx.graph.load import Loaded, load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize

Shape = tuple[int, ...]


def network(
    body: str,
    weights: Mapping[str, Shape | NDArray[np.generic]],
    *,
    image: str = "float[N,3,8,8] x",
    result: str = "float[N,K] y",
    opset: int = 17,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return `body` as a model; weights given by shape are drawn at random."""
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]>\nnet ({image}) => ({result}) {{\n{body}\n}}'
    )
    proto = parser.parse_model(text)
    draw = np.random.default_rng(seed)
    for name, given in weights.items():
        if isinstance(given, tuple):
            fan = max(int(np.prod(given[1:])), 1)
            array = (draw.standard_normal(given) / np.sqrt(fan)).astype(np.float32)
        else:
            array = given
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return proto


def batchnorm(name: str, channels: int, *, seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """Return gamma, beta, mean and variance as NAME_g, NAME_b, NAME_m, NAME_v."""
    draw = np.random.default_rng(seed)
    return {
        f"{name}_g": draw.uniform(0.5, 1.5, channels).astype(np.float32),
        f"{name}_b": draw.standard_normal(channels).astype(np.float32),
        f"{name}_m": draw.standard_normal(channels).astype(np.float32),
        f"{name}_v": draw.uniform(0.5, 2.0, channels).astype(np.float32),
    }


def save(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


@cache
def real_model(path: Path) -> NormalizedModel:
    """Load and normalize once; tests only read it."""
    return normalize(load(path))


def through(proto: onnx.ModelProto, folder: Path) -> tuple[Loaded, NormalizedModel]:
    """Write, load and normalize."""
    loaded = load(save(proto, folder))
    return loaded, normalize(loaded)


def run(model: bytes | str, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: x}))


def image_batch(model: NormalizedModel, batch: int, *, seed: int = 3) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((batch, *model.input_shape)).astype(np.float32)


def assert_same(
    original: onnx.ModelProto, model: NormalizedModel, *, tolerance: float = 1e-5
) -> None:
    """Both give the same numbers at batch 1 and 3; a file of fixed batch 1 is run image by image.

    The tolerance is relative to the largest output: float32 sums in another order differ by a few
    times 1e-7 per layer, so 1e-5 leaves room for about thirty of them.
    """
    normal = ir.to_proto(model.ir)
    onnx.checker.check_model(normal, full_check=True)
    before, after = original.SerializeToString(), normal.SerializeToString()
    for batch in (1, 3):
        x = image_batch(model, batch)
        if model.contract.batch == 1:
            rows = [run(before, x[i : i + 1]) for i in range(batch)]
            expected = [np.concatenate(column) for column in zip(*rows, strict=True)]
        else:
            expected = run(before, x)
        for want, got in zip(expected, run(after, x), strict=True):
            assert want.shape == got.shape
            assert np.abs(want - got).max() <= tolerance * np.abs(want).max()


def operators(model: NormalizedModel | ir.Model) -> Counter[str]:
    graph = model.ir.graph if isinstance(model, NormalizedModel) else model.graph
    return Counter(node.op_type for node in graph)


def only(model: NormalizedModel, op: str) -> ir.Node:
    """Return the single node of an operator."""
    (found,) = [node for node in model.ir.graph if node.op_type == op]
    return found
