"""Small networks built node by node, as exporters write what these tests are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A graph under construction; every call returns the name of the value that it made."""

    def __init__(self, *, seed: int = 0) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def noise(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant((self.draw.normal(size=shape) * (1.4 / fan**0.5)).astype(np.float32))

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        index = len(self.nodes)
        made = [f"v{index}" + f"_{i}" * (i > 0) for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, f"{op}_{index}", **attributes))
        return made[0]

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, **attributes: Any) -> str:
        pads = [kernel // 2] * 4
        weight, bias = self.noise(outputs, inputs, kernel, kernel), self.noise(outputs)
        return self.op("Conv", x, weight, bias, pads=pads, **attributes)

    def conv_relu(self, x: str, inputs: int, outputs: int, **attributes: Any) -> str:
        return self.op("Relu", self.conv(x, inputs, outputs, **attributes))

    def head(self, x: str, channels: int, classes: int = 5) -> str:
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.op("Gemm", flat, self.noise(classes, channels), self.noise(classes), transB=1)

    def model(
        self,
        outputs: str | Sequence[str],
        shape: Sequence[int | str] = ("N", 3, 16, 16),
        *,
        opset: int = 17,
        kind: int = TensorProto.FLOAT,
        more: Sequence[onnx.ValueInfoProto] = (),
    ) -> onnx.ModelProto:
        """Return the model with the input `x` of `shape`; shapes of outputs are ONNX's."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        image = helper.make_tensor_value_info("x", kind, shape)
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
        graph = helper.make_graph(self.nodes, "net", [image, *more], ends, self.tensors)
        imports = [helper.make_opsetid("", opset)]
        version = max(4, helper.find_min_ir_version_for(imports))
        model = helper.make_model(graph, opset_imports=imports, ir_version=version)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model)
        return model
