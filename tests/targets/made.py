"""Small files for a target, made all the way: placed, calibrated, refitted and exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from dfqonnx.convert.importer import to_program
from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.gptq import gptq
from dfqonnx.targets.profile import TargetProfile
from tests.export.qnets import Net, residual


def projected() -> Net:
    """A residual block whose shortcut is a Conv, ReLU6, a HardSwish and an average pool."""
    net = Net(seed=3)
    low, high = (net.constant(f"b{v}", np.float32(v)) for v in (0, 6))
    a = net.add("Clip", net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4), low, high, name="c")
    b = net.conv(a, "c1", (24, 16, 3, 3), pads=[1] * 4)
    s = net.conv(a, "shortcut", (24, 16, 1, 1))
    c = net.add("Relu", net.add("Add", b, s, name="sum"), name="relu")
    d = net.add("HardSwish", net.conv(c, "c2", (16, 24, 1, 1)), name="swish")
    d = net.add("AveragePool", d, name="average", kernel_shape=[2, 2], strides=[2, 2])
    e = net.conv(d, "depthwise", (16, 1, 3, 3), group=16, pads=[1] * 4)
    net.head(net.add("Relu", e, name="relu2"), 16)
    return net


NETS = {"residual": residual, "projected": projected}


class Made:
    """A file for a target, and what the student that it was made of computes."""

    def __init__(
        self,
        target: TargetProfile,
        net: str | Path,
        bits: str,
        folder: Path,
        *,
        rules: NodeRules | None = None,
    ) -> None:
        self.target, self.path = target, folder / "student.onnx"
        if isinstance(net, str):
            onnx.save(NETS[net]().proto(), folder / "net.onnx")
            net = folder / "net.onnx"
        model = normalize(load(net))
        quant = QuantizationConfig(BitWidths.parse(bits))
        self.plan = place_quantizers(model, quant, target, input_signed=True, rules=rules)
        program = to_program(model)
        self.student = Student(program, self.plan)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(24, *model.input_shape, generator=generator)
        self.student.initialize([x])
        gptq(self.student, program, x, generator=generator)
        metadata = {"dfqonnx.target": target.name}
        write(export(model, self.plan, self.student.qparams(), metadata=metadata), self.path)
        self.proto = onnx.load(self.path)
        self.x: NDArray[np.float32] = x.numpy()
        self.arrays = {t.name: numpy_helper.to_array(t) for t in self.proto.graph.initializer}
        self.types = {t.name: t.data_type for t in self.proto.graph.initializer}
        self.makers = {name: node for node in self.proto.graph.node for name in node.output}

    def nodes(self, op: str) -> list[onnx.NodeProto]:
        return [node for node in self.proto.graph.node if node.op_type == op]

    def scales(self) -> list[NDArray[np.float32]]:
        kinds = ("QuantizeLinear", "DequantizeLinear")
        return [self.arrays[node.input[1]] for op in kinds for node in self.nodes(op)]

    def weight_types(self) -> set[int]:
        return {self.types[w.weight] for w in self.plan.weights}

    def bias_of(self, name: str) -> str:
        return next(node.input[2] for node in self.proto.graph.node if node.name == name)
