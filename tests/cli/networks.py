"""Small networks in ONNX text, for commands to chew on."""

from __future__ import annotations

import numpy as np
import onnx
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
