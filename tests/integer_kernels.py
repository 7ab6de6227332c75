"""Whether ONNX Runtime's integer kernels add products of 8-bit codes exactly on this processor.

On x86-64 without VNNI they add pairs of products in 16 bits, which overflow: 255 x 127 x 2 is
64,770. A Conv whose codes are all at their ends then returns about half of its value. Tests
that compare what such kernels compute are skipped there; `exact_kernels.txt` names those that were
seen to fail. (ONNX Runtime's option `session.x64quantprecision` adds exactly, but with it 1.31
refuses some of their files.)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 32


def _file() -> bytes:
    """Return a QDQ Conv of ones by ones, every code at its end."""
    constants = {
        "sx": np.float32(1 / 255), "zx": np.uint8(0), "sw": np.float32(1 / 127),
        "sy": np.float32(CHANNELS * 9 / 255), "w": np.full((16, CHANNELS, 3, 3), 127, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["qx"]),
        helper.make_node("DequantizeLinear", ["qx", "sx", "zx"], ["dx"]),
        helper.make_node("DequantizeLinear", ["w", "sw"], ["dw"]),
        helper.make_node("Conv", ["dx", "dw"], ["c"], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["c", "sy", "zx"], ["qy"]),
        helper.make_node("DequantizeLinear", ["qy", "sy", "zx"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, 8, 8])
        for name, count in (("x", CHANNELS), ("y", 16))
    )
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "kernels", [x], [y], initializers)
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()


@cache
def add_exactly() -> bool:
    """Return whether the middle of the Conv is the number of its products."""
    session = onnxruntime.InferenceSession(_file(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones((1, CHANNELS, 8, 8), np.float32)})
    return bool(abs(float(y[0, 0, 4, 4]) - 9 * CHANNELS) < 1.0)


def read_tests() -> frozenset[str]:
    """Return the tests that need exact kernels, as `FILE::FUNCTION` below the repository."""
    lines = Path(__file__).with_name("exact_kernels.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(lines)
