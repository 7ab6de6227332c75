"""Small networks of the kinds that users bring: each is run whole, in ONNX Runtime and by us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

BACKBONE = """
    c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
    r1 = Relu(c1)
    c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
    r2 = Relu(c2)
"""
WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "b2": (16,),
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One network.

    Attributes:
        body: behind the backbone (r2 is 16 x 16 x 16), or all of it where it has its own.
        outputs: as ONNX text.
        weights: by shape, drawn at random.
        constants: given.
        image: the input as ONNX text.
        opset: of the file.
        targets: what distillation compares.
        kinds: what validation takes the outputs for.
        floats: operators that stay in float, some of them.
    """

    body: str
    outputs: str
    targets: tuple[str, ...]
    kinds: tuple[str, ...]
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    image: str = "float[N,3,32,32] x"
    opset: int = 17
    floats: tuple[str, ...] = ()
    backbone: bool = True

    def model(self) -> onnx.ModelProto:
        """Return the file's content."""
        rng = np.random.default_rng(0)
        text = (
            f'<ir_version: 8, opset_import: ["": {self.opset}]>\n'
            f"net ({self.image}) => ({self.outputs}) {{"
            f"{BACKBONE if self.backbone else ''}{self.body}\n}}"
        )
        model = parser.parse_model(text)
        shapes = {**(WEIGHTS if self.backbone else {}), **self.weights}
        arrays = {
            name: (rng.standard_normal(shape) / max(1, np.prod(shape[1:])) ** 0.5).astype("f4")
            for name, shape in shapes.items()
        }
        for name, array in {**arrays, **self.constants}.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        onnx.checker.check_model(model)
        return model


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


LSTM = {"lw": (1, 16, 256), "lr": (1, 16, 4), "lb": (1, 32)}
KINDS: Mapping[str, Kind] = {
    "detector": Kind(
        """
    s = Conv(r2, ws, bs)
    st = Transpose<perm=[0,2,3,1]>(s)
    sr = Reshape(st, anchors2)
    scores = Softmax<axis=-1>(sr)
    d = Conv(r2, wd, bd)
    dt = Transpose<perm=[0,2,3,1]>(d)
    dr = Reshape(dt, anchors4)
    e = Exp(dr)
    boxes = Mul(e, size)""",
        "float[N,256,2] scores, float[N,256,4] boxes",
        targets=("sr", "boxes"),
        kinds=("values", "values"),
        weights={"ws": (2, 16, 1, 1), "bs": (2,), "wd": (4, 16, 1, 1), "bd": (4,)},
        constants={
            "anchors2": ints(0, 256, 2),
            "anchors4": ints(0, 256, 4),
            "size": np.array([0.1], "f4"),
        },
        floats=("Exp", "Softmax"),
    ),
    "detector with suppression": Kind(
        """
    s = Conv(r2, ws, bs)
    p = Sigmoid(s)
    scores = Reshape(p, one_row)
    d = Conv(r2, wd, bd)
    dt = Transpose<perm=[0,2,3,1]>(d)
    boxes = Reshape(dt, four_wide)
    kept = NonMaxSuppression(boxes, scores, most, iou, least)""",
        "int64[M,3] kept, float[1,256,4] boxes",
        targets=("boxes", "scores"),
        kinds=("varying", "values"),
        weights={"ws": (1, 16, 1, 1), "bs": (1,), "wd": (4, 16, 1, 1), "bd": (4,)},
        constants={
            "one_row": ints(1, 1, 256),
            "four_wide": ints(1, 256, 4),
            "most": np.array([20], np.int64),
            "iou": np.array([0.5], "f4"),
            "least": np.array([0.5], "f4"),
        },
        image="float[1,3,32,32] x",
        floats=("NonMaxSuppression",),
    ),
    "segmentation": Kind(
        """
    m = Conv(r2, wm, bm)
    logits = Resize<mode="linear">(m, , scales)""",
        "float[N,5,32,32] logits",
        targets=("logits",),
        kinds=("mask",),
        weights={"wm": (5, 16, 1, 1), "bm": (5,)},
        constants={"scales": np.array([1, 1, 2, 2], "f4")},
        floats=("Resize",),
    ),
    "segmentation with labels": Kind(
        """
    m = Conv(r2, wm, bm)
    up = Resize<mode="nearest">(m, , scales)
    labels = ArgMax<axis=1, keepdims=0>(up)""",
        "int64[N,32,32] labels",
        targets=("up",),
        kinds=("labels",),
        weights={"wm": (5, 16, 1, 1), "bm": (5,)},
        constants={"scales": np.array([1, 1, 2, 2], "f4")},
        floats=("ArgMax",),
    ),
    "super-resolution": Kind(
        """
    u = Conv(r2, wu, bu)
    y = DepthToSpace<blocksize=4, mode="CRD">(u)""",
        "float[N,3,64,64] y",
        targets=("y",),
        kinds=("image",),
        weights={"wu": (48, 16, 1, 1), "bu": (48,)},
    ),
    "style": Kind(
        """
    i = InstanceNormalization(r2, g, h)
    a = Relu(i)
    t = ConvTranspose<strides=[2,2]>(a, wt, bt)
    k = Conv<pads=[1,1,1,1]>(t, wk, bk)
    y = Tanh(k)""",
        "float[N,3,32,32] y",
        targets=("y",),
        kinds=("image",),
        weights={
            "g": (16,),
            "h": (16,),
            "wt": (16, 8, 2, 2),
            "bt": (8,),
            "wk": (3, 8, 3, 3),
            "bk": (3,),
        },
        floats=("InstanceNormalization", "ConvTranspose", "Tanh"),
    ),
    "text reader": Kind(
        """
    h = Reshape(r2, columns)
    t = Transpose<perm=[2,0,1]>(h)
    q, hidden, cell = LSTM<hidden_size=4>(t, lw, lr, lb)
    z = Squeeze(q, one)
    k = MatMul(z, wo)
    y = Softmax<axis=-1>(k)""",
        "float[16,N,6] y",
        targets=("h",),  # the first axis of t counts columns, not images
        kinds=("values",),
        weights={**LSTM, "wo": (4, 6)},
        constants={"columns": ints(0, 256, 16), "one": ints(1)},
        floats=("LSTM", "MatMul"),
    ),
    "open size": Kind(
        """
    s = Shape(x)
    hw = Slice(s, two, four)
    m = Conv(r2, wm, bm)
    ms = Shape(m)
    nc = Slice(ms, zero, two)
    sizes = Concat<axis=0>(nc, hw)
    y = Resize<mode="nearest">(m, , , sizes)""",
        "float[N,5,H,W] y",
        targets=("y",),
        kinds=("mask",),
        weights={"wm": (5, 16, 1, 1), "bm": (5,)},
        constants={"zero": ints(0), "two": ints(2), "four": ints(4)},
        image="float[N,3,H,W] x",
    ),
    "integer pixels": Kind(
        """
    n = Transpose<perm=[0,3,1,2]>(x)
    f = Cast<to=1>(n)
    z = Sub(f, mean)
    v = Div(z, spread)
    c = Conv<pads=[1,1,1,1], strides=[2,2]>(v, w, b)
    r = Relu(c)
    p = GlobalAveragePool(r)
    l = Flatten(p)
    y = Gemm<transB=1>(l, wg, bg)""",
        "float[N,6] y",
        targets=("y",),
        kinds=("classes",),
        weights={"w": (8, 3, 3, 3), "b": (8,), "wg": (6, 8), "bg": (6,)},
        constants={
            "mean": np.array([127.5], "f4").reshape(1, 1, 1, 1),
            "spread": np.array([127.5], "f4").reshape(1, 1, 1, 1),
        },
        image="uint8[N,32,32,3] x",
        backbone=False,
    ),
    "several heads": Kind(
        """
    p = GlobalAveragePool(r2)
    l = Flatten(p)
    age = Gemm<transB=1>(l, wa, ba)
    group = Gemm<transB=1>(l, wg, bg)""",
        "float[N,1] age, float[N,4] group",
        targets=("group", "age"),
        kinds=("values", "classes"),
        weights={"wa": (1, 16), "ba": (1,), "wg": (4, 16), "bg": (4,)},
    ),
    "one output twice": Kind(
        """
    p = GlobalAveragePool(r2)
    features = Flatten(p)
    y = Gemm<transB=1>(features, wg, bg)""",
        "float[N,4] y, float[N,16] features",
        targets=("y", "features"),
        kinds=("classes", "classes"),
        weights={"wg": (4, 16), "bg": (4,)},
    ),
    "signal": Kind(
        """
    c = Conv<pads=[2,2], strides=[2]>(x, w, b)
    r = Relu(c)
    d = Conv<pads=[1,1]>(r, v, a)
    g = ReduceMean<axes=[2], keepdims=0>(d)
    y = Gemm<transB=1>(g, wg, bg)""",
        "float[N,3] y",
        targets=("y",),
        kinds=("classes",),
        weights={"w": (8, 1, 5), "b": (8,), "v": (8, 8, 3), "a": (8,), "wg": (3, 8), "bg": (3,)},
        image="float[N,1,128] x",
        backbone=False,
    ),
}


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with everything real in float16."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, tensor in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            small = numpy_helper.from_array(array.astype(np.float16), tensor.name)
            copy.graph.initializer[index].CopyFrom(small)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return copy
