"""For every rule a file that breaks it: a small network of random numbers, right but for that.

Each builder gets a folder and returns the file. `quantize_static` and `quantize_dynamic` write
those that they write wrongly by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from dfqonnx.targets.profile import DEFAULT_TARGET
from tests.lint.qdq_nets import INT8, SIZE, UINT8, QdqNet

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class BadFile:
    """A file that breaks one rule of one target."""

    rule: str
    target: str
    build: Build


BAD_FILES: dict[str, BadFile] = {}


def bad(rule: str, *, target: str = DEFAULT_TARGET) -> Callable[[Build], Build]:
    """File a builder under the name of the function."""

    def file(build: Build) -> Build:
        assert build.__name__ not in BAD_FILES
        BAD_FILES[build.__name__] = BadFile(rule, target, build)
        return build

    return file


class RandomImages(CalibrationDataReader):
    """Four images of noise."""

    def __init__(self, name: str = "x", shape: tuple[int, ...] = (1, 4, SIZE, SIZE)) -> None:
        random = np.random.default_rng(0)
        self.images = iter([{name: random.normal(size=shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image."""
        return next(self.images, None)


def residual(folder: Path, *, opset: int = 13) -> Path:
    """Write a float network with one residual block and a classifier."""
    net = QdqNet(opset=opset, ir_version=8)
    a = net.node("Relu", [net.float_conv("x", name="stem")])
    b = net.node("Relu", [net.float_conv(a, name="first")])
    b = net.float_conv(b, name="second")
    y = net.node("Relu", [net.node("Add", [b, a], name="sum")])
    y = net.node("Flatten", [net.node("GlobalAveragePool", [y])])
    weight = net.tensor(net.random.normal(0, 0.1, (5, 4)).astype(np.float32))
    y = net.node("Gemm", [y, weight], name="classifier", transB=1)
    return net.save(folder / "float.onnx", y)


def static(folder: Path, **options: object) -> Path:
    """Quantize the residual network with ONNX Runtime's own tool."""
    path = folder / "static.onnx"
    quantize_static(residual(folder), path, RandomImages(), **options)
    return path


def started() -> tuple[QdqNet, str]:
    """Return a network whose input is quantized."""
    net = QdqNet()
    return net, net.quantize("x", name="input")


@bad("qoperator-format")
def qoperator(folder: Path) -> Path:
    kind = QuantType.QUInt8
    return static(folder, activation_type=kind, quant_format=QuantFormat.QOperator)


@bad("dynamic-quantization")
def dynamic(folder: Path) -> Path:
    quantize_dynamic(residual(folder), folder / "dynamic.onnx", weight_type=QuantType.QUInt8)
    return folder / "dynamic.onnx"


@bad("int8-activations")
def static_with_int8_activations(folder: Path) -> Path:
    return static(
        folder,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


@bad("int8-activations")
def int8_codes_with_a_clip(folder: Path) -> Path:
    net = QdqNet()
    given = net.parameters(0.02, 0, INT8)
    codes = net.node("QuantizeLinear", ["x", *given])
    codes = net.node("Clip", [codes, net.tensor(np.int8(-8)), net.tensor(np.int8(7))])
    y = net.conv(net.node("DequantizeLinear", [codes, *given]))
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("int8-activations-rewritten")
def int8_chain(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", zero=0, dtype=INT8))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=0, dtype=INT8))


@bad("uint8-weights")
def static_with_uint8_weights(folder: Path) -> Path:
    return static(folder, activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8)


@bad("asymmetric-weights")
def asymmetric_weights(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x, zero=5, most=100)))


@bad("int4-weights-without-cast")
def static_with_int4_weights(folder: Path) -> Path:
    return static(
        folder,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt4,
        per_channel=True,
    )


@bad("4-bit-activations")
def uint4_activations(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", zero=8, kind=TensorProto.UINT4))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=8, kind=TensorProto.UINT4))


@bad("16-bit-activations")
def static_with_uint16_activations(folder: Path) -> Path:
    return static(folder, activation_type=QuantType.QUInt16, weight_type=QuantType.QInt8)


@bad("type-newer-than-opset")
def uint16_at_opset_17(folder: Path) -> Path:
    net = QdqNet(opset=17, ir_version=8)
    y = net.conv(net.quantize("x", zero=32768, dtype=np.uint16))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=32768, dtype=np.uint16))


@bad("contrib-domain", target="openvino")
def contrib_operators(folder: Path) -> Path:
    net, x = started()
    y = net.quantize(net.conv(x))
    net.opsets["com.microsoft"] = 1
    for node in net.nodes:
        if node.op_type.endswith("Linear"):
            node.domain = "com.microsoft"
    return net.save(folder / "bad.onnx", y)


@bad("int4-not-loadable", target="onnxruntime-cpu-legacy")
def packed_for_an_old_runtime(folder: Path) -> Path:
    net, x = started()
    codes = net.tensor(net.random.integers(-7, 8, (4, 4, 3, 3)), kind=TensorProto.INT4)
    codes = net.node("Cast", [codes], to=TensorProto.INT8)
    given = net.parameters(np.full(4, 0.01), 0, INT8)
    weight = net.node("DequantizeLinear", [codes, *given], axis=0)
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("opset-too-new", target="stm32")
def opset_21_for_stm32(folder: Path) -> Path:
    net = QdqNet(opset=21)
    y = net.conv(net.quantize("x", zero=-3, dtype=INT8))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=0, dtype=INT8))


@bad("float-weights-behind-quantizer")
def static_with_quantizers_on_float_weights(folder: Path) -> Path:
    return static(
        folder,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"AddQDQPairToWeight": True},
    )


@bad("activation-kinds-mixed")
def uint8_in_uint16_out(folder: Path) -> Path:
    net, x = started()
    y = net.quantize(net.conv(x), zero=32768, kind=TensorProto.UINT16)
    return net.save(folder / "bad.onnx", y)


@bad("attribute-newer-than-opset")
def scales_of_channels_at_opset_12(folder: Path) -> Path:
    net = QdqNet(opset=12, ir_version=7)
    y = net.quantize(net.conv(net.quantize("x")))
    return net.save(folder / "bad.onnx", y)


@bad("input-not-quantized")
def weights_alone(folder: Path) -> Path:
    net = QdqNet()
    return net.save(folder / "bad.onnx", net.conv("x"))


@bad("weight-not-quantized")
def weights_folded_to_float(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.float_conv(x)))


@bad("output-not-quantized")
def output_left_in_float(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.conv(net.quantize(net.conv(x)), name="last"))


@bad("output-not-quantized", target="onnxruntime-qnn")
def classifier_left_in_float(folder: Path) -> Path:
    net = QdqNet()
    pooled = net.quantize(net.node("GlobalAveragePool", [net.quantize("x")]))
    flat = net.quantize(net.node("Flatten", [pooled]))
    return net.save(folder / "bad.onnx", net.gemm(flat, inputs=4))


@bad("output-read-as-float")
def output_read_in_float_too(folder: Path) -> Path:
    net, x = started()
    y = net.conv(x)
    return net.save(folder / "bad.onnx", net.quantize(y), net.node("Exp", [y]))


@bad("several-quantizers")
def two_quantizers_on_one_output(folder: Path) -> Path:
    net, x = started()
    y = net.conv(x)
    y = net.node("Add", [net.quantize(y, 0.02), net.quantize(y, 0.03)])
    return net.save(folder / "bad.onnx", net.quantize(y, 0.05))


@bad("activation-not-absorbed")
def hard_swish_behind_a_conv(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.node("HardSwish", [net.conv(x)])))


@bad("activation-not-absorbed")
def relu_before_a_zero_point_in_the_middle(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.node("Relu", [net.conv(x)]), zero=128))


@bad("activation-not-absorbed")
def clip_below_the_range_of_its_quantizer(folder: Path) -> Path:
    net, x = started()
    bounds = [net.tensor(np.float32(0)), net.tensor(np.float32(6))]
    y = net.node("Clip", [net.conv(x), *bounds])
    return net.save(folder / "bad.onnx", net.quantize(y, 0.05, 0))


@bad("batch-normalization-left")
def batch_normalization_left(folder: Path) -> Path:
    net, x = started()
    given = [net.tensor(np.full(4, value, np.float32)) for value in (1.0, 0.1, 0.0, 1.0)]
    y = net.node("BatchNormalization", [net.conv(x), *given])
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("operand-not-quantized")
def sum_with_a_float_operand(folder: Path) -> Path:
    net, x = started()
    a = net.quantize(net.conv(x, name="first"))
    y = net.node("Add", [net.conv(a, name="second"), a])
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("activation-not-absorbed")
def relu_behind_a_sum_before_a_zero_point_in_the_middle(folder: Path) -> Path:
    net, x = started()
    y = net.node("Relu", [net.node("Add", [net.quantize(net.conv(x)), x])])
    return net.save(folder / "bad.onnx", net.quantize(y, zero=128))


@bad("several-quantizers")
def two_quantizers_on_one_sum(folder: Path) -> Path:
    net, x = started()
    y = net.node("Add", [net.quantize(net.conv(x)), x])
    y = net.node("Add", [net.quantize(y, 0.02), net.quantize(y, 0.03)])
    return net.save(folder / "bad.onnx", net.quantize(y, 0.05))


@bad("batch-normalization-left")
def batch_normalization_between_quantizers(folder: Path) -> Path:
    net, x = started()
    y = net.node("Relu", [net.conv(x)])
    given = [net.tensor(np.full(4, value, np.float32)) for value in (1.0, 0.1, 0.0, 1.0)]
    y = net.node("BatchNormalization", [net.quantize(y, zero=0), *given])
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("activation-behind-quantizer")
def relu_between_quantizers(folder: Path) -> Path:
    net, x = started()
    y = net.quantize(net.node("Relu", [net.quantize(net.conv(x))]), zero=0)
    return net.save(folder / "bad.onnx", net.quantize(net.conv(y)))


@bad("two-quantizers-in-a-row")
def two_in_a_row(folder: Path) -> Path:
    net, x = started()
    y = net.quantize(net.quantize(net.conv(x), 0.02), 0.05)
    return net.save(folder / "bad.onnx", net.quantize(net.conv(y)))


@bad("quantizer-repeated")
def the_same_twice(folder: Path) -> Path:
    net, x = started()
    y = net.quantize(net.quantize(net.conv(x), 0.02), 0.02)
    return net.save(folder / "bad.onnx", net.quantize(net.conv(y)))


@bad("moved-values-requantized")
def pool_with_another_scale(folder: Path) -> Path:
    net, x = started()
    y = net.node("MaxPool", [net.quantize(net.conv(x), 0.02)], kernel_shape=[2, 2])
    return net.save(folder / "bad.onnx", net.quantize(y, 0.03))


@bad("moved-values-requantized")
def resize_with_another_scale(folder: Path) -> Path:
    net, x = started()
    sizes = net.tensor(np.array([1, 4, 2 * SIZE, 2 * SIZE]))
    y = net.node("Resize", [net.quantize(net.conv(x)), "", "", sizes], mode="nearest")
    return net.save(folder / "bad.onnx", net.quantize(y, 0.03))


@bad("mean-without-kernel")
def mean_over_the_image(folder: Path) -> Path:
    net, x = started()
    y = net.node("ReduceMean", [net.quantize(net.conv(x)), net.tensor(np.array([2, 3]))])
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("softmax-fused")
def softmax_between_quantizers(folder: Path) -> Path:
    net, x = started()
    y = net.node("Softmax", [net.quantize(net.conv(x))], axis=1)
    return net.save(folder / "bad.onnx", net.quantize(y, 1 / 256, 0))


@bad("quantizer-without-use")
def quantizer_between_floats(folder: Path) -> Path:
    net, x = started()
    y = net.node("Elu", [net.quantize(net.conv(x))])
    return net.save(folder / "bad.onnx", net.node("Tanh", [net.quantize(y)]))


@bad("quantizer-without-use")
def quantized_input_of_a_float_operator(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.node("Elu", [x]))


@bad("layer-without-kernel")
def transposed_conv(folder: Path) -> Path:
    net, x = started()
    weight, _ = net.weight((4, 4, 3, 3), axis=1)
    return net.save(folder / "bad.onnx", net.quantize(net.node("ConvTranspose", [x, weight])))


@bad("half-a-quantizer")
def codes_read_as_numbers(folder: Path) -> Path:
    net, x = started()
    y = net.node("QuantizeLinear", [net.conv(x), *net.parameters(0.02, 128)])
    y = net.node("Cast", [y], to=TensorProto.FLOAT)
    return net.save(folder / "bad.onnx", y)


@bad("half-a-quantizer")
def numbers_read_as_codes(folder: Path) -> Path:
    net = QdqNet()
    given = net.parameters(0.02, 128)
    x = net.node("Cast", [net.node("Softplus", ["x"])], to=TensorProto.UINT8)
    x = net.node("QuantizeLinear", [net.node("Cast", [x], to=TensorProto.FLOAT), *given])
    y = net.conv(net.node("DequantizeLinear", [x, *given]))
    codes = net.node("QuantizeLinear", [y, *given])
    net.node("DequantizeLinear", [codes, *given])
    return net.save(folder / "bad.onnx", net.node("DequantizeLinear", [codes, *given]))


@bad("pool-attribute-ignored")
def pool_with_ceil_mode(folder: Path) -> Path:
    net, x = started()
    pooled = net.node("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return net.save(folder / "bad.onnx", net.quantize(pooled))


@bad("small-volume-convolution")
def volume_of_four_channels(folder: Path) -> Path:
    net, x = started()
    shape = net.tensor(np.array([1, 4, 2, 4, SIZE]))
    volume = net.quantize(net.node("Reshape", [x, shape]))
    weight, _ = net.weight((4, 4, 1, 3, 3))
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [volume, weight])))


@bad("summand-rounded", target="openvino")
def residual_of_quantize_static(folder: Path) -> Path:
    return static(folder, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def scaled(folder: Path, scale: float) -> Path:
    """Write a network whose Conv's output has that scale."""
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x), scale))


@bad("bad-scale")
def scale_of_zero(folder: Path) -> Path:
    return scaled(folder, 0.0)


@bad("bad-scale")
def scale_that_is_no_number(folder: Path) -> Path:
    return scaled(folder, float("nan"))


@bad("bad-scale")
def scale_without_end(folder: Path) -> Path:
    return scaled(folder, float("inf"))


@bad("bad-scale")
def subnormal_scale(folder: Path) -> Path:
    return scaled(folder, 1e-40)


@bad("bias-scale")
def bias_one_percent_off(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x, bias_scale=0.0202)))


@bad("bias-scale")
def bias_with_one_scale(folder: Path) -> Path:
    net, x = started()
    weight, _ = net.weight((4, 4, 3, 3))
    codes = net.tensor(np.arange(4, dtype=np.int32))
    bias = net.node("DequantizeLinear", [codes, net.tensor(np.float32(2e-5))])
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight, bias])))


@bad("bias-saturated")
def bias_cut_off(folder: Path) -> Path:
    net, x = started()
    weight, scale = net.weight((4, 4, 3, 3))
    codes = net.tensor(np.array([3, 2**31 - 1, -7, -(2**31)], np.int32))
    given = net.parameters(np.float32(0.02) * scale, 0, np.int32)
    bias = net.node("DequantizeLinear", [codes, *given], axis=0)
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight, bias])))


@bad("weights-saturated")
def weights_cut_off(folder: Path) -> Path:
    net, x = started()
    drawn = net.random.normal(0, 150, (4, 4, 3, 3))  # two fifths beyond 127
    codes = net.tensor(np.clip(drawn, -127, 127).astype(np.int8))
    given = net.parameters(np.full(4, 0.001), 0, INT8)
    weight = net.node("DequantizeLinear", [codes, *given], axis=0)
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("weight-axis")
def scales_along_the_inputs(folder: Path) -> Path:
    net, x = started()
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x, axis=1)))


@bad("parameter-sizes")
def three_scales_for_four_channels(folder: Path) -> Path:
    net, x = started()
    codes = net.tensor(net.random.integers(-9, 9, (4, 4, 3, 3)).astype(np.int8))
    given = net.parameters(np.full(3, 0.01), 0, INT8)
    weight = net.node("DequantizeLinear", [codes, *given], axis=0)
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("parameter-sizes")
def axis_beyond_the_last(folder: Path) -> Path:
    net, x = started()
    codes = net.tensor(net.random.integers(-9, 9, (4, 4, 3, 3)).astype(np.int8))
    given = net.parameters(np.full(4, 0.01), 0, INT8)
    weight = net.node("DequantizeLinear", [codes, *given], axis=0)
    net.nodes[-1].attribute[0].i = 4
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("zero-point-type")
def int8_weights_with_a_uint8_zero_point(folder: Path) -> Path:
    net, x = started()
    codes = net.tensor(net.random.integers(-9, 9, (4, 4, 3, 3)).astype(np.int8))
    weight = net.node("DequantizeLinear", [codes, *net.parameters(0.01, 0, UINT8)])
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("activation-scales-per-channel")
def activation_with_four_scales(folder: Path) -> Path:
    net = QdqNet()
    x = net.quantize("x", np.full(4, 0.02), 128)
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x)))


@bad("activation-scale-of-rank-1")
def sum_with_scales_in_lists(folder: Path) -> Path:
    net = QdqNet()
    x = net.quantize("x", [0.02], [128])
    y = net.node("Add", [net.quantize(net.conv(x), [0.02], [128]), x])
    return net.save(folder / "bad.onnx", net.quantize(y, [0.05], [128]))


@bad("pair-unlike")
def read_with_another_scale(folder: Path) -> Path:
    net, x = started()
    codes = net.node("QuantizeLinear", [net.conv(x), *net.parameters(0.02, 128)])
    y = net.node("DequantizeLinear", [codes, *net.parameters(0.03, 128)])
    return net.save(folder / "bad.onnx", net.quantize(net.conv(y)))


@bad("channels-with-few-codes")
def one_scale_for_unlike_channels(folder: Path) -> Path:
    net, x = started()
    codes = net.random.integers(-127, 128, (4, 4, 3, 3))
    codes[1:] = np.sign(codes[1:]) * 2
    stored = net.tensor(codes.astype(np.int8))
    weight = net.node("DequantizeLinear", [stored, *net.parameters(0.01, 0, INT8)])
    return net.save(folder / "bad.onnx", net.quantize(net.node("Conv", [x, weight])))


@bad("codes-unused")
def probabilities_with_codes_up_to_ten(folder: Path) -> Path:
    net, x = started()
    y = net.node("Sigmoid", [net.quantize(net.conv(x))])
    return net.save(folder / "bad.onnx", net.quantize(y, 10 / 255, 0))


@bad("zero-point-not-zero", target="tensorrt")
def int8_with_a_zero_point(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", zero=-3, dtype=INT8))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=0, dtype=INT8))


@bad("unsigned-codes", target="tensorrt")
def uint8_for_tensorrt(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", zero=0, dtype=UINT8))
    return net.save(folder / "bad.onnx", net.quantize(y, zero=0, dtype=INT8))


def on_codes(folder: Path, op: str) -> Path:
    """Write a network with a Clip or Pad on the codes of its input."""
    net = QdqNet()
    given = net.parameters(0.02, 128)
    codes = net.node("QuantizeLinear", ["x", *given])
    if op == "Clip":
        codes = net.node(op, [codes, net.tensor(np.uint8(0)), net.tensor(np.uint8(15))])
    else:
        codes = net.node(op, [codes, net.tensor(np.array([0, 0, 1, 1, 0, 0, 1, 1])), given[1]])
    x = net.node("DequantizeLinear", [codes, *given])
    net.channels[x] = 4
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x)))


@bad("clip-on-codes", target="onnxruntime-qnn")
def four_bit_codes_for_qnn(folder: Path) -> Path:
    return on_codes(folder, "Clip")


@bad("codes-compared-as-signed", target="portable")
def four_bit_codes_for_all(folder: Path) -> Path:
    return on_codes(folder, "Clip")


@bad("codes-compared-as-signed", target="portable")
def pooled_codes_for_all(folder: Path) -> Path:
    net = QdqNet()
    given = net.parameters(0.02, 128)
    codes = net.node("QuantizeLinear", ["x", *given])
    codes = net.node("Transpose", [codes], perm=[0, 1, 3, 2])
    codes = net.node("MaxPool", [codes], kernel_shape=[2, 2])
    x = net.node("DequantizeLinear", [codes, *given])
    net.channels[x] = 4
    return net.save(folder / "bad.onnx", net.quantize(net.conv(x)))


@bad("pad-on-codes", target="onnxruntime-qnn")
def padded_codes_for_qnn(folder: Path) -> Path:
    return on_codes(folder, "Pad")


@bad("int32-bias", target="tensorrt")
def int32_bias_for_tensorrt(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", zero=0, dtype=INT8), bias_scale=0.02)
    return net.save(folder / "bad.onnx", net.quantize(y, zero=0, dtype=INT8))


@bad("float-bias")
def float_bias(folder: Path) -> Path:
    net, x = started()
    weight, _ = net.weight((4, 4, 3, 3))
    y = net.node("Conv", [x, weight, net.tensor(np.ones(4, np.float32))])
    return net.save(folder / "bad.onnx", net.quantize(y))


@bad("scale-not-power-of-two", target="vitisai")
def free_scales_for_vitis(folder: Path) -> Path:
    net = QdqNet()
    return net.save(folder / "bad.onnx", net.quantize("x", 0.02, 0, INT8))


@bad("weight-scales-per-channel", target="vitisai")
def scales_per_channel_for_vitis(folder: Path) -> Path:
    net = QdqNet()
    y = net.conv(net.quantize("x", 2.0**-6, 0, INT8))
    return net.save(folder / "bad.onnx", net.quantize(y, 2.0**-6, 0, INT8))


@bad("accelerator-left", target="onnxruntime-qnn")
def float_conv_for_qnn(folder: Path) -> Path:
    net = QdqNet()
    y = net.quantize(net.conv(net.quantize(net.float_conv("x", name="stem"))))
    return net.save(folder / "bad.onnx", y)


def good(folder: Path) -> Path:
    """Write a network without a fault: a residual block and a classifier, biases in int32."""
    net, x = started()
    a = net.quantize(net.node("Relu", [net.conv(x, bias_scale=0.02)]), 0.02, 0)
    b = net.quantize(net.node("Relu", [net.conv(a, bias_scale=0.02)]), 0.02, 0)
    c = net.quantize(net.conv(b, bias_scale=0.02), 0.03, 128)
    y = net.quantize(net.node("Relu", [net.node("Add", [c, a])]), 0.04, 0)
    y = net.quantize(net.node("MaxPool", [y], kernel_shape=[2, 2]), 0.04, 0)
    y = net.quantize(net.node("GlobalAveragePool", [y]), 0.03, 0)
    y = net.quantize(net.node("Flatten", [y]), 0.03, 0)
    return net.save(folder / "good.onnx", net.gemm(y, inputs=4, name="classifier"))
