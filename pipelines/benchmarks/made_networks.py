"""Networks of known shape with random weights, for measuring what quantizing them costs.

    ResNet          7x7 stem of stride 2, pooling, bottlenecks 1x1 - 3x3 - 1x1 with a sum
    ConvNet         3x3 Conv, BatchNormalization and Relu, a stride of 2 where a stage begins

Source of the first: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class NetworkWriter:
    """Adds nodes with random weights, one after another."""

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._size = size
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return the name of what it puts out."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, shape: Sequence[int], scale: float, offset: float = 0.0) -> str:
        """Add random numbers and return their name."""
        name = f"w{len(self.initializers)}"
        values = offset + scale * self._rng.standard_normal(shape, dtype=np.float32)
        self.initializers.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, *, stride: int = 1, relu: bool = True
    ) -> str:
        """Add a Conv from and to so many channels, BatchNormalization and Relu."""
        inward, outward = channels
        shape = (outward, inward, kernel, kernel)
        scale = (2.0 / (inward * kernel**2)) ** 0.5
        pad = (kernel - 1) // 2
        x = self.add(
            "Conv", [x, self.weight(shape, scale)],
            kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[pad] * 4,
        )  # fmt: skip
        constants = [
            self.weight([outward], 0.05, 1.0),
            self.weight([outward], 0.05),
            self.weight([outward], 0.05),
            self.weight([outward], 0.01, 1.0),
        ]
        x = self.add("BatchNormalization", [x, *constants])
        return self.add("Relu", [x]) if relu else x

    def save(self, logits: str, channels: int, classes: int, path: Path) -> None:
        """Pool what the last layer puts out, classify it, and write the file."""
        x = self.add("Flatten", [self.add("GlobalAveragePool", [logits])])
        x = self.add(
            "Gemm",
            [x, self.weight((classes, channels), channels**-0.5), self.weight([classes], 0.01)],
            transB=1,
        )
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *[self._size] * 2])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", classes])],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)


def write_convnet(
    path: Path, widths: Sequence[int], *, depth: int, size: int, classes: int = 10
) -> Path:
    """Write a ConvNet of `depth` layers a stage, one stage for each of the widths."""
    net = NetworkWriter(size)
    x, inward = "x", 3
    for stage, width in enumerate(widths):
        for layer in range(depth):
            x = net.conv(x, (inward, width), 3, stride=2 if stage and not layer else 1)
            inward = width
    net.save(x, inward, classes, path)
    return path


def write_resnet(
    path: Path, blocks: Sequence[int] = (3, 4, 6, 3), *, width: int = 64, size: int = 224
) -> Path:
    """Write a ResNet of bottlenecks; as it is called without arguments, ResNet-50."""
    net = NetworkWriter(size)
    x = net.conv("x", (3, width), 7, stride=2)
    x = net.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    inward = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            y = net.conv(x, (inward, inner), 1)
            y = net.conv(y, (inner, inner), 3, stride=stride)
            y = net.conv(y, (inner, 4 * inner), 1, relu=False)
            if not block:
                x = net.conv(x, (inward, 4 * inner), 1, stride=stride, relu=False)
            x = net.add("Relu", [net.add("Add", [x, y])])
            inward = 4 * inner
    net.save(x, inward, 1000, path)
    return path
