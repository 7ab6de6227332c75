"""Operators with quantizers around them: which kernels run, and what they compute.

A sweep: every operator of the target's tables at unusual values of its attributes, between two
Conv, in ONNX Runtime as written and as deployed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfqonnx.convert.importer import to_program
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.export.export import check, export
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.export.qnets import Net
from tests.rehearsal.rehearsals import rehearse_model

LEAST_SQNR = 25  # decibels: eight bits with min-max ranges, four roundings one behind the other


def around(middle: Callable[[Net, str], str], *, channels: int = 8, relu: bool = True) -> Net:
    """What `middle` makes of the maps (8, 9, 9) of a Conv, read by a Conv of `channels`."""
    net = Net(("N", 3, 9, 9))
    a = net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4)
    a = net.add("Relu", a, name="relu0") if relu else a
    b = net.conv(middle(net, a), "c1", (8, channels, 1, 1))
    net.head(net.add("Relu", b, name="relu1"), 8)
    return net


def ints(net: Net, name: str, *values: int) -> str:
    return net.constant(name, np.array(values, np.int64))


def one(op: str, *shapes: tuple[int, ...], **attributes: object) -> Callable[[Net, str], str]:
    """A node with further constants of those values as 64-bit integers."""

    def build(net: Net, x: str) -> str:
        extra = [ints(net, f"k{i}", *values) for i, values in enumerate(shapes)]
        return net.add(op, x, *extra, name="middle", **attributes)

    return build


def two(op: str, weight: tuple[int, ...], **attributes: object) -> Callable[[Net, str], str]:
    """A node of two computed operands: the maps, and what a second Conv makes of the image."""

    def build(net: Net, x: str) -> str:
        return net.add(
            op, x, net.conv("image", "other", weight, pads=[1] * 4), name="middle", **attributes
        )

    return build


POOLS = [
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1},
    {
        "kernel_shape": [3, 3],
        "strides": [2, 2],
        "pads": [1, 1, 0, 0],
        "ceil_mode": 1,
        "count_include_pad": 1,
    },
    {"kernel_shape": [3, 2], "strides": [3, 2], "ceil_mode": 1, "pads": [0, 1, 1, 0]},
    {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1, "pads": [2, 0, 0, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0], "count_include_pad": 1},
    {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [1, 1], "strides": [2, 2]},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2], "count_include_pad": 1},
]


@pytest.mark.parametrize("attributes", POOLS)
def test_an_average_is_computed_by_integers_as_written(
    attributes: dict[str, object], tmp_path: Path
) -> None:
    found = rehearse_model(around(one("AveragePool", **attributes)).proto(opset=19), tmp_path)
    assert found.warnings == []
    assert found.kernels.get("QLinearAveragePool") == 1
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


@pytest.mark.parametrize(
    "attributes",
    [
        {"dilations": [2, 2]},
        {"dilations": [1, 3], "pads": [1, 1, 1, 1]},
        {"dilations": [2, 1], "ceil_mode": 1, "strides": [2, 2], "count_include_pad": 1},
    ],
)
def test_a_dilated_average_stays_in_float(attributes: dict[str, object], tmp_path: Path) -> None:
    net = around(one("AveragePool", kernel_shape=[2, 2], **attributes))
    found = rehearse_model(net.proto(opset=19), tmp_path)
    assert found.plan.isolated == ("middle",)
    assert "dilations" in {f.node: f.reason for f in found.plan.floats}["middle"]
    assert found.kernels["AveragePool"] == 1
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


SAME_CODES = {
    "MaxPool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "MaxPool ceil": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool dilated": one(
        "MaxPool", kernel_shape=[3, 3], dilations=[2, 3], pads=[1, 2, 2, 1], ceil_mode=1
    ),
    "MaxPool column major": one("MaxPool", kernel_shape=[2, 2], storage_order=1),
    "Transpose": one("Transpose", perm=[0, 1, 3, 2]),
    "Slice backwards": one("Slice", (7, 1), (-99, 9), (2, 3), (-2, 3)),
    "Gather": one("Gather", (3, 1, 1, 7, 0, 0, 2, 6), axis=1),
    "Tile": one("Tile", (1, 1, 2, 3)),
    "Pad": one("Pad", (0, 0, 2, 0, 0, 0, 1, 1)),
    "Pad reflect": one("Pad", (0, 0, 2, 0, 0, 0, 1, 1), mode="reflect"),
    "Pad edge": one("Pad", (0, 0, 2, 0, 0, 0, 1, 1), mode="edge"),
    "Pad crops": one("Pad", (0, 0, -2, 0, 0, 0, 1, -1)),
    "GlobalMaxPool": one("GlobalMaxPool"),
    "ReduceMax": one("ReduceMax", (2, 3)),
}


@pytest.mark.parametrize("name", SAME_CODES)
@pytest.mark.parametrize("relu", [True, False])
def test_codes_are_handed_on_as_written(name: str, relu: bool, tmp_path: Path) -> None:
    found = rehearse_model(around(SAME_CODES[name], relu=relu).proto(opset=18), tmp_path)
    assert found.plan.isolated == ()
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


def split(net: Net, x: str) -> str:
    outs = ["s0", "s1", "s2"]
    net.nodes.append(onnx.helper.make_node("Split", [x, ints(net, "k", 3, 1, 4)], outs, axis=1))
    return net.add("Concat", *outs[::-1], name="middle", axis=1)


BINARY = {
    "Add": two("Add", (8, 3, 3, 3)),
    "Mul": two("Mul", (8, 3, 3, 3)),
    "Sub": two("Sub", (8, 3, 3, 3)),
    "Add one channel": two("Add", (1, 3, 3, 3)),
    "Mul one channel": two("Mul", (1, 3, 3, 3)),
    "Concat": two("Concat", (8, 3, 3, 3), axis=1),
    "Concat rows": two("Concat", (8, 3, 3, 3), axis=-2),
    "Max": two("Max", (8, 3, 3, 3)),
    "Sum": two("Sum", (8, 3, 3, 3)),
    "Mean": two("Mean", (8, 3, 3, 3)),
    "PRelu": two("PRelu", (8, 3, 3, 3)),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("relu", [True, False])
def test_two_operands_meet_as_written(name: str, relu: bool, tmp_path: Path) -> None:
    channels = 16 if name == "Concat" else 8
    net = around(BINARY[name], channels=channels, relu=relu)
    found = rehearse_model(net.proto(opset=18), tmp_path)
    assert found.plan.isolated == ()
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


UNARY = {
    "Sigmoid": one("Sigmoid"),
    "LeakyRelu": one("LeakyRelu", alpha=0.3),
    "LeakyRelu steep": one("LeakyRelu", alpha=1.5),
    "LeakyRelu falling": one("LeakyRelu", alpha=-0.3),
    "HardSwish": one("HardSwish"),
    "HardSigmoid": one("HardSigmoid", alpha=0.3),
    "Elu": one("Elu"),
    "Tanh": one("Tanh"),
    "Softplus": one("Softplus"),
    "Gelu": one("Gelu"),
    "Mish": one("Mish"),
    "Softmax": one("Softmax", axis=1),
    "Softmax last": one("Softmax"),
    "LogSoftmax": one("LogSoftmax", axis=1),
    "Abs": one("Abs"),
    "Neg": one("Neg"),
    "Erf": one("Erf"),
    "Exp": one("Exp"),
    "split": split,
}


@pytest.mark.parametrize("name", UNARY)
def test_an_activation_is_computed_as_written(name: str, tmp_path: Path) -> None:
    found = rehearse_model(around(UNARY[name], relu=False).proto(opset=20), tmp_path)
    assert found.warnings == []
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


LAYERS = {
    "dilated": ((8, 8, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 1, 4]}),
    "grouped": ((8, 4, 3, 3), {"group": 2, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "multiplied": ((16, 1, 3, 1), {"group": 8}),
    "SAME_LOWER": ((8, 8, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "VALID": ((8, 8, 3, 3), {"auto_pad": "VALID"}),
    "strided beyond its kernel": ((8, 8, 1, 1), {"strides": [3, 2]}),
    "padded beyond its kernel": ((8, 8, 3, 3), {"pads": [4, 4, 4, 4]}),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(4, 8)])
def test_a_conv_of_any_form_runs_on_integers(name: str, bits: BitWidths, tmp_path: Path) -> None:
    shape, attributes = LAYERS[name]

    def build(net: Net, x: str) -> str:
        return net.add("Relu", net.conv(x, "middle", shape, **attributes), name="relu2")

    found = rehearse_model(around(build, channels=shape[0]).proto(), tmp_path, bits=bits)
    assert found.plan.isolated == ()
    assert found.kernels["QLinearConv"] == 3
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > (LEAST_SQNR if bits.weights == 8 else 8)  # 4 bits: 24 dB less a layer


def attention(net: Net, x: str) -> str:
    """Tokens of a map attend to each other: MatMul of two computed values, twice."""
    query, key, value = (net.conv(x, name, (8, 8, 1, 1)) for name in ("q", "k", "v"))
    shape = ints(net, "tokens", 0, 2, 4, 81)
    heads = [net.add("Reshape", each, shape, name=f"r{each}") for each in (query, key, value)]
    rows = net.add("Transpose", heads[0], name="t", perm=[0, 1, 3, 2])
    scores = net.add("MatMul", rows, heads[1], name="scores")
    scaled = net.add("Mul", scores, net.constant("half", np.float32(0.5)), name="scaled")
    weights = net.add("Softmax", scaled, name="weights", axis=-1)
    columns = net.add("Transpose", weights, name="t2", perm=[0, 1, 3, 2])
    mixed = net.add("MatMul", heads[2], columns, name="mixed")
    return net.add("Reshape", mixed, ints(net, "map", 0, 8, 9, 9), name="middle")


def hard_swishes(net: Net, x: str) -> str:
    a = net.add("HardSwish", x, name="h0")
    b = net.add(
        "HardSwish", net.conv(a, "depthwise", (8, 1, 3, 3), group=8, pads=[1] * 4), name="h1"
    )
    c = net.add("Add", net.conv(b, "point", (8, 8, 1, 1)), a, name="sum")
    return net.add("HardSwish", c, name="middle")


def test_attention_multiplies_codes(tmp_path: Path) -> None:
    found = rehearse_model(around(attention).proto(), tmp_path)
    assert found.kernels["QLinearMatMul"] == 2
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > LEAST_SQNR


@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(4, 4)])
def test_hard_swishes_are_products_of_codes(bits: BitWidths, tmp_path: Path) -> None:
    found = rehearse_model(around(hard_swishes, relu=False).proto(), tmp_path, bits=bits)
    assert found.kernels["QLinearMul"] == 3
    assert not {"HardSwish", "HardSigmoid", "Mul", "Add"} & found.kernels.keys()
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > (LEAST_SQNR if bits.weights == 8 else 5)


def test_a_hard_swish_whose_input_is_read_elsewhere_stays_in_float(tmp_path: Path) -> None:
    def build(net: Net, x: str) -> str:
        return net.add("Add", net.add("HardSwish", x, name="middle"), x, name="sum")

    found = rehearse_model(around(build, relu=False).proto(), tmp_path)
    assert {f.node for f in found.plan.floats} == {"middle"}
    assert found.sqnr > LEAST_SQNR


@pytest.mark.parametrize("middle", [hard_swishes, attention])
@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(4, 4)])
def test_the_student_computes_what_the_file_computes(
    middle: Callable[[Net, str], str], bits: BitWidths, tmp_path: Path
) -> None:
    """Torch and ONNX Runtime on equal codes, after training moved the scales."""
    path = tmp_path / "float.onnx"
    onnx.save(around(middle, relu=False).proto(), path)
    model = normalize(load(path))
    plan = place_quantizers(model, QuantizationConfig(bits), ONNXRUNTIME_CPU, input_signed=True)
    student = Student(to_program(model), plan)
    x = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    student.initialize([x])
    loss = student(x)[0].square().sum()
    loss.backward()
    for quantizer in student.quantizers():
        assert quantizer.log_scale.grad is not None
        if quantizer.spec.unit is not None:  # scales of 3 / k still learn
            assert float(quantizer.log_scale.grad.abs()) > 0
            assert quantizer.params().scale == pytest.approx(
                3 / round(3 / quantizer.params().scale), rel=1e-6
            )  # one rounding to float32
        quantizer.log_scale.data -= 0.01 * quantizer.log_scale.grad.sign()
    data = check(export(model, plan, student.qparams())).SerializeToString()
    run = StudentOutputs(student.codes(x), student(x)[0].detach().numpy())
    parity = measure_parity(data, x.numpy(), torch_run=run)
    assert parity is not None
    assert parity.off_vs_torch is not None
    assert parity.off_vs_torch.faulty == ()
    assert parity.on_vs_off.faulty == ()


@pytest.mark.parametrize("layer", ["Gemm", "MatMul"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("tail", ["Softmax", "Transpose", "Sigmoid"])
def test_a_last_layer_with_an_activation_and_a_float_tail_runs_on_integers(
    layer: str, activation: str, tail: str, tmp_path: Path
) -> None:
    net = Net(("N", 3, 9, 9))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu0")
    if layer == "Gemm":
        a = net.add("Flatten", net.add("GlobalAveragePool", a, name="pool"), name="flat")
    else:
        a = net.add("Transpose", a, name="last", perm=[0, 2, 3, 1])
    weight = net.constant("w", net.rng.normal(size=(8, 6)).astype(np.float32))
    bounds = [net.constant("low", np.float32(0)), net.constant("high", np.float32(6))]
    b = net.add("MatMul", a, weight, name="product")
    b = net.add(activation, b, *(bounds if activation == "Clip" else []), name="bounded")
    net.add(tail, b, name="tail")
    shape = ("N", 6) if layer == "Gemm" else ("N", 7, 7, 6)
    turned = ("N", 6)[::-1] if layer == "Gemm" else (6, 7, 7, "N")
    proto = net.proto(output_shape=turned if tail == "Transpose" else shape)
    found = rehearse_model(proto, tmp_path)
    assert found.kernels["QGemm" if layer == "Gemm" else "MatMulIntegerToFloat"] == 1
    assert found.kernels["QLinearConv"] == 1
    assert found.sqnr > LEAST_SQNR
    float_layers = audit_kernels(found.path).float_weighted
    assert float_layers == ()


@pytest.mark.parametrize(("channels", "integer"), [(1, False), (8, False), (16, True), (32, True)])
def test_a_conv_over_volumes_takes_the_faster_kernel(
    channels: int, integer: bool, tmp_path: Path
) -> None:
    net = Net(("N", channels, 6, 6, 6))
    a = net.conv("image", "volume", (8, channels, 3, 3, 3), pads=[1] * 6)
    net.head(net.add("Relu", a, name="relu0"), 8)
    found = rehearse_model(net.proto(), tmp_path)
    assert found.plan.isolated == (() if integer else ("volume",))
    assert [weight.node for weight in found.plan.weights] == ["volume", "fc"]  # 8 bits
    assert ("QLinearConv" in found.kernels) == integer
    assert found.sqnr > LEAST_SQNR


def test_a_decoder_of_five_transposed_convs_computes_what_the_file_says(tmp_path: Path) -> None:
    """ONNX Runtime would round their float weights to one 8-bit scale: 18 % of the codes moved.

    A U-shaped net over 64 x 64, sums of decoder branches, activations up to about 50,000.
    """
    net = Net(("N", 3, 64, 64))
    skips, x = [], "image"
    for level in range(5):
        channels = 3 if level == 0 else 8
        x = net.conv(x, f"down{level}", (8, channels, 3, 3), strides=[2, 2], pads=[1] * 4)
        x = net.add("Relu", x, name=f"relu{level}")
        skips.append(x)
    large = net.constant("large", np.float32(8.0))
    for level in reversed(range(5)):
        weight = net.rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
        bias = net.constant(f"up{level}.bias", net.rng.normal(size=8).astype(np.float32))
        inputs = x, net.constant(f"up{level}.weight", weight), bias
        steps = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
        x = net.add("ConvTranspose", *inputs, name=f"up{level}", **steps)
        if level:
            x = net.add("Add", x, skips[level - 1], name=f"sum{level}")
            x = net.add("Relu", net.add("Mul", x, large, name=f"m{level}"), name=f"r{level}")
    net.conv(net.add("Relu", x, name="last"), "mask", (2, 8, 1, 1))
    found = rehearse_model(net.proto(opset=13, output_shape=("N", 2, 64, 64)), tmp_path)
    names = {f"up{level}" for level in range(5)}
    assert set(found.plan.isolated) == names
    assert found.warnings == []
    assert found.kernels["ConvTranspose"] == 5
    assert found.parity.on_vs_off.faulty == ()
    assert found.parity.on_vs_off.largest <= 1
    assert found.sqnr > LEAST_SQNR
