"""Small networks in ONNX text, for commands to chew on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser


def model_from(text: str, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """An ONNX model from its text, with seeded random weights of the given shapes."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(text)
    for name, shape in weights.items():
        value = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.checker.check_model(model)
    return model


SMALL = """<ir_version: 8, opset_import: ["": 17]>
small (float[N,3,8,8] x) => (float[N,4] y)
{
    a = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)
    r = Relu(a)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB=1>(f, v, c)
}"""
WEIGHTS = {"w": (8, 3, 3, 3), "b": (8,), "v": (4, 8), "c": (4,)}


def colored_images(count: int, *, seed: int = 0) -> np.ndarray:
    """Images (N, 8, 8, 3) of one color each, under a little noise: they drive a small network."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(0, 256, (count, 1, 1, 3))
    return (colors + rng.normal(0, 8, (count, 8, 8, 3))).clip(0, 255).astype(np.uint8)


def logits_of(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What a float network with inputs in 0..1, NCHW, gives for pixels."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = (pixels / 255).astype(np.float32).transpose(0, 3, 1, 2)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def balanced_classifier(path: Path, *, classes: int = 4, width: int = 16) -> Path:
    """Save a random classifier that chooses each class about equally often on colored images."""
    weights = {"w": (width, 3, 3, 3), "b": (width,), "v": (classes, width), "c": (classes,)}
    model = model_from(SMALL.replace("float[N,4]", f"float[N,{classes}]"), **weights)
    onnx.save(model, path)
    z = logits_of(path, colored_images(512, seed=99))
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    scale = 1 / z.std(0)
    for name, value in (
        ("v", numpy_helper.to_array(held["v"]) * scale[:, None]),
        ("c", (numpy_helper.to_array(held["c"]) - z.mean(0)) * scale),
    ):
        held[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, path)
    return path
