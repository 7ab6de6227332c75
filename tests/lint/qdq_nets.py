"""Small QDQ networks written node by node, each quantizer as a test wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

UINT8, INT8 = np.uint8, np.int8
SIZE = 8


class QdqNet:
    """A graph under construction; every method returns the name of the value it makes."""

    def __init__(self, *, opset: int = 21, channels: int = 4, ir_version: int = 10) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.opsets = {"": opset}
        self.ir_version = ir_version
        self.channels = {"x": channels}
        self.random = np.random.default_rng(7)
        self.count = 0

    def tensor(self, array: NDArray[Any], *, kind: int = 0, name: str = "") -> str:
        """Store a constant; `kind` is an element type that numpy lacks."""
        self.count += 1
        name = name or f"k{self.count}"
        if kind:
            made = helper.make_tensor(name, kind, array.shape, array.flatten().tolist())
        else:
            made = numpy_helper.from_array(array, name)
        self.tensors.append(made)
        return name

    def node(self, op: str, inputs: Sequence[str], *, name: str = "", **attributes: Any) -> str:
        """Append a node of one output."""
        self.count += 1
        output = f"v{self.count}"
        made = helper.make_node(op, inputs, [output], name=name or f"{op}_{self.count}")
        made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(made)
        if inputs and inputs[0] in self.channels:
            self.channels[output] = self.channels[inputs[0]]
        return output

    def parameters(
        self, scale: Any, zero: Any, dtype: Any = UINT8, *, kind: int = 0
    ) -> tuple[str, str]:
        """Store a scale and a zero point of the same shape."""
        factor = np.asarray(scale, np.float32)
        codes = np.broadcast_to(np.asarray(zero, np.int64 if kind else dtype), factor.shape)
        return self.tensor(factor), self.tensor(np.array(codes), kind=kind)

    def quantize(
        self,
        x: str,
        scale: Any = 0.02,
        zero: Any = 128,
        dtype: Any = UINT8,
        *,
        name: str = "",
        kind: int = 0,
    ) -> str:
        """Append QuantizeLinear and DequantizeLinear."""
        given = self.parameters(scale, zero, dtype, kind=kind)
        codes = self.node("QuantizeLinear", [x, *given], name=name)
        return self.node("DequantizeLinear", [codes, *given], name=name and f"{name}_dq")

    def weight(
        self,
        shape: tuple[int, ...],
        *,
        axis: int = 0,
        dtype: Any = INT8,
        zero: int = 0,
        kind: int = 0,
        most: int = 127,
    ) -> tuple[str, NDArray[np.float32]]:
        """Store codes with a DequantizeLinear; return its output and its scales."""
        codes = self.random.integers(-most, most + 1, shape) + zero
        scale = self.random.uniform(0.001, 0.002, shape[axis]).astype(np.float32)
        stored = self.tensor(codes if kind else codes.astype(dtype), kind=kind)
        given = self.parameters(scale, zero, dtype, kind=kind)
        return self.node("DequantizeLinear", [stored, *given], axis=axis), scale

    def bias(self, scale: NDArray[np.float32], *, zero: bool = True) -> str:
        """Store an int32 bias with a DequantizeLinear."""
        codes = self.tensor(self.random.integers(-999, 999, scale.shape or (1,)).astype(np.int32))
        given = self.parameters(scale, 0, np.int32) if zero else (self.tensor(scale),)
        return self.node("DequantizeLinear", [codes, *given], axis=0)

    def conv(
        self,
        x: str,
        outputs: int = 4,
        *,
        name: str = "",
        kernel: int = 3,
        bias_scale: float | None = None,
        **weight: Any,
    ) -> str:
        """Append a Conv with dequantized weights; its int32 bias has `bias_scale` times theirs."""
        shape = (outputs, self.channels[x], kernel, kernel)
        given, scale = self.weight(shape, **weight)
        inputs = [x, given]
        if bias_scale is not None:
            inputs.append(self.bias(np.float32(bias_scale) * scale))
        y = self.node("Conv", inputs, name=name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        self.channels[y] = outputs
        return y

    def float_conv(self, x: str, outputs: int = 4, *, name: str = "", kernel: int = 3) -> str:
        """Append a Conv with a float weight."""
        shape = (outputs, self.channels[x], kernel, kernel)
        given = self.tensor(self.random.normal(0, 0.1, shape).astype(np.float32))
        y = self.node(
            "Conv", [x, given], name=name, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4
        )
        self.channels[y] = outputs
        return y

    def gemm(self, x: str, outputs: int = 5, *, name: str = "", inputs: int = 0) -> str:
        """Append a Gemm with dequantized weights, transposed."""
        given, _ = self.weight((outputs, inputs or self.channels[x]))
        return self.node("Gemm", [x, given], name=name, transB=1)

    def proto(self, y: str, *more: str, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
        """Return the model whose output is `y`."""
        shape = [1, self.channels["x"], SIZE, SIZE]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in (y, *more)],
            self.tensors,
        )
        opsets = [helper.make_opsetid(domain, number) for domain, number in self.opsets.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)
        helper.set_model_props(model, metadata or {})
        inferred = onnx.shape_inference.infer_shapes(model)
        for declared, found in zip(model.graph.output, inferred.graph.output, strict=True):
            declared.type.CopyFrom(found.type)
        return model

    def save(self, path: Path, y: str, *more: str, **metadata: str) -> Path:
        """Write the model whose output is `y`."""
        onnx.save(self.proto(y, *more, metadata=metadata), path)
        return path
