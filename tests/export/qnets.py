"""Small networks, taken from file to exported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.core.quantization import BitWidths, QuantizationConfig, Storage
from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.export.rough import rough_params


class Net:
    """Builds a float network node by node, random weights from one seed."""

    def __init__(self, shape: tuple[Any, ...] = ("N", 3, 8, 8), *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.shape = shape
        self.last = "image"

    def add(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.last = f"{name}_out"
        node = helper.make_node(op, inputs or [self.last], [self.last], name=name, **attributes)
        self.nodes.append(node)
        return self.last

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x: str, name: str, shape: tuple[int, ...], **attributes: Any) -> str:
        fan = float(np.prod(shape[1:]))
        weight = self.rng.normal(size=shape).astype(np.float32) * np.float32(1.4 / fan**0.5)
        bias = self.rng.normal(size=shape[:1]).astype(np.float32) * np.float32(0.1)
        inputs = x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)
        return self.add("Conv", *inputs, name=name, **attributes)

    def head(self, x: str, channels: int, classes: int = 5) -> str:
        pooled = self.add("GlobalAveragePool", x, name="pool")
        flat = self.add("Flatten", pooled, name="flat")
        weight = self.rng.normal(size=(classes, channels)).astype(np.float32)
        self.constant("fc.weight", weight)
        self.constant("fc.bias", np.linspace(-1, 1, classes).astype(np.float32))
        return self.add("Gemm", flat, "fc.weight", "fc.bias", name="fc", transB=1)

    def proto(
        self, *, opset: int = 17, output_shape: tuple[Any, ...] = ("N", 5)
    ) -> onnx.ModelProto:
        out = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, output_shape)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "net", [image], [out], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        helper.set_model_props(model, {"author": "somebody"})
        return model


def residual() -> Net:
    """Stem, a residual block with a parameter-free strided shortcut, classifier."""
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4), name="relu0")
    b = net.conv(a, "c1", (16, 16, 3, 3), pads=[1] * 4)
    b = net.conv(net.add("Relu", b, name="relu1"), "c2", (16, 16, 3, 3), pads=[1] * 4)
    c = net.add("Relu", net.add("Add", b, a, name="add1"), name="relu2")
    d = net.conv(c, "c3", (32, 16, 3, 3), pads=[1] * 4, strides=[2, 2])
    d = net.conv(net.add("Relu", d, name="relu3"), "c4", (32, 32, 3, 3), pads=[1] * 4)
    ints = {"starts": [0, 0], "ends": [2**62, 2**62], "axes": [2, 3], "steps": [2, 2]}
    limits = [net.constant(k, np.array(v, np.int64)) for k, v in ints.items()]
    s = net.add("Slice", c, *limits, name="stride")
    pads = net.constant("pads", np.array([0, 8, 0, 0, 0, 8, 0, 0], np.int64))
    s = net.add("Pad", s, pads, name="widen")
    e = net.add("Relu", net.add("Add", d, s, name="add2"), name="relu4")
    net.head(net.add("Relu", net.conv(e, "c5", (8, 32, 1, 1)), name="relu5"), 8)
    return net


def chain() -> Net:
    """The least that has a 4-bit Conv input."""
    net = Net(("N", 3, 6, 6))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu0")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    return net


@dataclass(frozen=True)
class Exported:
    """A network on its way through export."""

    source: Path
    model: NormalizedModel
    plan: QuantizationPlan
    params: QuantizationParameters
    ir: ir.Model
    path: Path
    x: NDArray[np.float32]

    @property
    def proto(self) -> onnx.ModelProto:
        return onnx.load(self.path)


def export_net(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    bits: BitWidths | None = None,
    storage: Storage = "auto",
    metadata: Mapping[str, str] | None = None,
    change: Callable[[QuantizationPlan], QuantizationPlan] = lambda plan: plan,
) -> Exported:
    """Save, load, normalize, choose plan, take rough scales, export, write."""
    source = folder / "net.onnx"
    onnx.save(proto, source)
    model = normalize(load(source))
    quant = QuantizationConfig(bits or BitWidths(4, 4), weight_storage=storage)
    plan = change(place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True))
    rng = np.random.default_rng(7)
    x = rng.normal(size=(8, *model.input_shape)).astype(np.float32)
    params = rough_params(model, plan, x)
    edited = export(model, plan, params, storage=storage, metadata=metadata)
    path = folder / "net.q.onnx"
    write(edited, path)
    return Exported(source, model, plan, params, edited, path, x)
