"""Small valid networks from a list of parts and a seed, in the spelling of any opset from 7 on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Grower:
    """A network under construction; the value `last` is (N, channels, height, width)."""

    def __init__(self, seed: int, opset: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.channels, self.size, self.last = 3, [int(s) for s in self.draw.integers(6, 13, 2)], "x"
        self.image = (self.channels, *self.size)

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [f"v{len(self.nodes)}" + f"_{i}" * (i > 0) for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, **attributes))
        self.last = made[0]
        return made[0]

    def constant(self, array: Any) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def noise(self, *shape: int, spread: float = 1.0) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        values = self.draw.normal(0, spread / np.sqrt(fan), shape)
        return self.constant(values.astype(np.float32))

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.draw.integers(len(choices)))]

    def tell(self) -> None:
        """Learn the shape of `last` from ONNX."""
        proto = self.proto(2, check=False)
        found = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
        (value,) = [v for v in (*found.value_info, *found.output) if v.name == self.last][:1]
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        self.channels, self.size = dims[1], dims[2:]

    def proto(self, batch: int | str, *, check: bool = True) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, *self.image))
        shape = (batch, self.channels, *self.size) if check else None
        out = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "grown", [image], [out], self.tensors)
        imports = [helper.make_opsetid("", self.opset)]
        ir_version = helper.find_min_ir_version_for(imports)
        model = helper.make_model(graph, opset_imports=imports, ir_version=max(ir_version, 4))
        if check:
            onnx.checker.check_model(model)
        return model


def conv(g: Grower) -> None:
    kernel = [int(g.pick(1, 2, 3, 3)) for _ in range(2)]
    depthwise = g.draw.random() < 0.3
    group = g.channels if depthwise else g.pick(*(d for d in (1, 1, 2) if g.channels % d == 0))
    out = g.channels * int(g.pick(1, 2)) if depthwise else int(g.pick(4, 6, 8))
    attributes: dict[str, Any] = {"group": group}
    if g.draw.random() < 0.5:
        attributes["kernel_shape"] = kernel
    attributes["strides"] = [int(g.pick(1, 1, 2)) for _ in range(2)]
    wide = [int(g.pick(1, 1, 2)) if g.draw.random() < 0.3 else 1 for _ in range(2)]
    if g.draw.random() < 0.3:
        attributes["auto_pad"] = g.pick("SAME_UPPER", "SAME_LOWER")
        wide = [1, 1]
    else:
        needed = [(k - 1) * d for k, d in zip(kernel, wide, strict=True)]
        begin = [int(g.draw.integers(0, n + 1)) for n in needed]
        attributes["pads"] = [*begin, *(n - b for n, b in zip(needed, begin, strict=True))]
    attributes["dilations"] = wide
    inputs = [g.last, g.noise(out, g.channels // group, *kernel, spread=1.4)]
    if g.draw.random() < 0.6:
        inputs.append(g.noise(out, spread=0.2))
    g.add("Conv", *inputs, **attributes)


def transposed(g: Grower) -> None:
    weight = g.noise(g.channels, 5, 2, 3, spread=2.0)
    pads = g.pick([0, 0, 0, 0], [0, 1, 0, 1])
    g.add("ConvTranspose", g.last, weight, strides=[int(g.pick(1, 2)), 1], pads=pads)


def norm(g: Grower) -> None:
    one = [g.constant(g.draw.uniform(0.5, 1.5, g.channels).astype(np.float32)) for _ in range(2)]
    two = [g.constant(g.draw.normal(0, 0.3, g.channels).astype(np.float32)) for _ in range(2)]
    g.add("BatchNormalization", g.last, one[0], two[0], two[1], one[1], epsilon=1e-3)


def unary(g: Grower) -> None:
    op = g.pick("Relu", "Relu", "Sigmoid", "LeakyRelu", "Tanh", "Elu", "HardSigmoid", "Softplus",
                "Neg", "Abs")  # fmt: skip
    g.add(op, g.last)


def swish(g: Grower) -> None:
    source = g.last
    if g.draw.random() < 0.5:
        gate = g.add("HardSigmoid", source, alpha=1 / 6, beta=0.5)
    else:
        gate = g.add("Sigmoid", source)
    g.add("Mul", *g.pick((source, gate), (gate, source)))


def relu6(g: Grower) -> None:
    if g.draw.random() < 0.3 and g.opset >= 8:
        low = g.add("Max", g.last, g.constant(np.float32(0)))
        g.add("Min", low, g.constant(np.float32(6)))
    elif g.opset < 11:
        g.add("Clip", g.last, min=0.0, max=6.0)
    else:
        g.add("Clip", g.last, g.constant(np.float32(0)), g.constant(np.float32(6)))


def pool(g: Grower) -> None:
    if min(g.size) < 3:
        return unary(g)
    op = g.pick("MaxPool", "AveragePool")
    attributes: dict[str, Any] = {"kernel_shape": [int(g.pick(2, 3)) for _ in range(2)]}
    attributes["strides"] = [int(g.pick(1, 2)) for _ in range(2)]
    style = g.pick("pads", "same", "plain")
    if style == "pads":
        attributes["pads"] = [1, 0, 1, 1]
        if op == "AveragePool":
            attributes["count_include_pad"] = int(g.pick(0, 1))
    elif style == "same":
        attributes["auto_pad"] = "SAME_UPPER"
    elif g.opset >= 10:
        attributes["ceil_mode"] = int(g.pick(0, 1))
    g.add(op, g.last, **attributes)


def residual(g: Grower) -> None:
    source, before = g.last, g.channels
    branch = g.add("Conv", source, g.noise(before, before, 3, 3), pads=[1] * 4)
    op = g.pick("Add", "Add", "Mul", "Sub", "Concat")
    more = {"axis": 1} if op == "Concat" else {}
    g.add(op, *g.pick((source, branch), (branch, source)), **more)


def gate(g: Grower) -> None:
    """Squeeze and excite."""
    source = g.last
    if g.draw.random() < 0.5:
        pooled = g.add("GlobalAveragePool", source)
    elif g.opset < 18:
        pooled = g.add("ReduceMean", source, axes=[2, 3], keepdims=1)
    else:
        pooled = g.add("ReduceMean", source, g.constant(np.array([2, 3])), keepdims=1)
    squeezed = g.add("Relu", g.add("Conv", pooled, g.noise(4, g.channels, 1, 1)))
    g.add("Mul", source, g.add("Sigmoid", g.add("Conv", squeezed, g.noise(g.channels, 4, 1, 1))))


def resize(g: Grower) -> None:
    scales = np.array([1, 1, *g.pick((2, 2), (2, 3), (1.5, 2))], np.float32)
    mode = g.pick("nearest", "linear")
    if g.opset < 9:
        g.add("Upsample", g.last, mode=mode, scales=scales.tolist())
    elif g.opset < 11:
        g.add("Upsample" if g.opset < 10 else "Resize", g.last, g.constant(scales), mode=mode)
    else:
        how = g.pick("half_pixel", "asymmetric", "align_corners")
        roi = "" if g.opset >= 13 else g.constant(np.zeros(0, np.float32))
        more = {"nearest_mode": "floor"} if mode == "nearest" else {}
        g.add("Resize", g.last, roi, g.constant(scales), mode=mode,
              coordinate_transformation_mode=how, **more)  # fmt: skip


def split(g: Grower) -> None:
    if g.channels < 2:
        return unary(g)
    parts = [1, g.channels - 1]
    first = f"v{len(g.nodes)}"
    if g.opset < 13:
        g.add("Split", g.last, outputs=2, axis=1, split=parts)
    else:
        g.add("Split", g.last, g.constant(np.array(parts)), outputs=2, axis=1)
    g.add("Concat", f"{first}_1", g.add("Relu", first), axis=1)
    return None


def pad(g: Grower) -> None:
    mode, pads = g.pick("constant", "constant", "reflect", "edge"), [0, 0, 1, 0, 0, 0, 1, 2]
    if g.opset < 11:
        g.add("Pad", g.last, mode=mode, pads=pads)
    else:
        g.add("Pad", g.last, g.constant(np.array(pads)), mode=mode)


def sideways(g: Grower) -> None:
    """NHWC and back, with an activation or a per-channel product in between."""
    g.add("Transpose", g.last, perm=[0, 2, 3, 1])
    if g.draw.random() < 0.5:
        g.add("Relu", g.last)
    else:
        g.add("Mul", g.last, g.noise(g.channels))
    g.add("Transpose", g.last, perm=[0, 3, 1, 2])


def reshaped(g: Grower) -> None:
    """Channel shuffle."""
    if g.channels % 2:
        return unary(g)
    half = g.channels // 2
    g.add("Reshape", g.last, g.constant(np.array([0, 2, half, *g.size])))
    g.add("Transpose", g.last, perm=[0, 2, 1, 3, 4])
    g.add("Reshape", g.last, g.constant(np.array([0, g.channels, *g.size])))
    return None


def shifted(g: Grower) -> None:
    op = g.pick("Add", "Mul", "Sub", "Div")
    values = g.draw.uniform(0.5, 2.0, (g.channels, 1, 1)).astype(np.float32)
    g.add(op, g.last, g.constant(values))


PARTS: dict[str, Callable[[Grower], None]] = {
    part.__name__: part
    for part in (conv, transposed, norm, unary, swish, relu6, pool, residual, gate, resize, split,
                 pad, sideways, reshaped, shifted)
}  # fmt: skip


def grow(parts: list[str], *, seed: int, opset: int, batch: int | str) -> onnx.ModelProto:
    """A Conv, the parts, and a classifier or a map."""
    g = Grower(seed, opset)
    conv(g)
    g.tell()
    for part in parts:
        PARTS[part](g)
        g.tell()
    match g.pick("gemm", "matmul", "map"):
        case "map":
            g.add("Conv", g.last, g.noise(2, g.channels, 1, 1))
        case "gemm":
            g.add("Flatten", g.add("GlobalAveragePool", g.last))
            g.add("Gemm", g.last, g.noise(4, g.channels), g.noise(4), transB=1)
        case _:
            g.add("Flatten", g.add("GlobalMaxPool", g.last))
            g.add("Add", g.add("MatMul", g.last, g.noise(g.channels, 4)), g.noise(4))
    g.tell()
    return g.proto(batch)


def pixels(proto: onnx.ModelProto, count: int) -> NDArray[np.float32]:
    """Random inputs that fit."""
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    values = np.random.default_rng(0).normal(size=(count, *shape))
    return values.astype(np.float32)
