"""Placement: which tensors get which quantizer, on small networks and on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfqonnx.core.quantization import INT8, BitWidths, QuantizationConfig
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import batchnorm, network, real_model, through
from tests.placement.plans import CONV, HEAD, W4A4, P, place, plan_of, short


def test_a_chain_of_convs_reads_narrow_but_for_its_ends(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) e = {P}(d, u) h = Relu(e) "
    plan = plan_of(tmp_path, body + HEAD.format("h"), CONV)
    assert short(plan) == {
        "x": "s8 input",
        "b": "u4 node-input feature",
        "d": "u4 node-input",
        "h": "u8 residual feature",
        "g": "u8 classifier-input",
    }
    assert [(w.node, w.grid.bits, w.input) for w in plan.weights] == [
        ("@a", 4, "x"),
        ("@c", 4, "b"),
        ("@e", 4, "d"),
        ("@y", 4, "g"),
    ]
    assert [(a.tensor, a.of, a.node) for a in plan.shared] == [("f", "g", "@f")]
    assert plan.floats == ()


def test_a_residual_stream_has_8_bits_and_a_narrow_requantizer(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a)
        c = {P}(b, v) d = Relu(c) e = {P}(d, u) s = Add(e, b) r = Relu(s)
    """
    plan = plan_of(tmp_path, body + HEAD.format("r"), CONV)
    assert short(plan) == {
        "x": "s8 input",
        "b": "u8 residual",
        "b@4": "u4 node-input",
        "d": "u4 node-input",
        "e": "s8 residual",
        "r": "u8 residual feature",
        "g": "u8 classifier-input",
    }
    second = next(s for s in plan.activations if s.name == "b@4")
    assert (second.tensor, second.consumers) == ("b", ("@c",))
    assert {w.node: w.input for w in plan.weights}["@c"] == "b@4"


def test_a_requantizer_is_called_like_no_value_of_the_model(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) e = {P}(d, u) s = Add(e, b) "
    proto = network(body + HEAD.format("s"), CONV)
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = ["b@4" if name == "d" else name for name in names]
    plan = place(through(proto, tmp_path)[1])
    names = [(a.name, a.tensor, a.grid.bits) for a in plan.activations]
    assert ("b@4", "b@4", 4) in names
    assert ("b@4_2", "b", 4) in names
    assert len({name for name, _, _ in names}) == len(names)


def test_at_8_bits_no_requantizer_is_needed(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) s = Add(c, b) "
    plan = plan_of(tmp_path, body + HEAD.format("s"), CONV, QuantizationConfig(BitWidths(8, 8)))
    assert all(not s.consumers for s in plan.activations)
    assert {s.grid.bits for s in (*plan.activations, *plan.weights)} == {8}


def test_strict_ends_widen_only_the_first_and_last_weights(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) "
    quant = QuantizationConfig(BitWidths(3, 3), first_last_bits=8)
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV, quant)
    assert [(w.node, w.grid.bits) for w in plan.weights] == [("@a", 8), ("@c", 3), ("@y", 8)]
    assert {s.name: s.grid.bits for s in plan.activations}["b"] == 3


def test_relu6_becomes_an_upper_bound(tmp_path: Path) -> None:
    bounds = {"zero": np.float32(0), "six": np.float32(6)}
    body = f"a = {P}(x, w) b = Clip(a, zero, six) c = {P}(b, v) d = Relu(c) "
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV | bounds)
    assert short(plan)["b"] == "u4<6 node-input"
    assert plan.floats == ()


def test_value_preserving_nodes_share_the_codes_of_their_source(tmp_path: Path) -> None:
    body = (
        f"a = {P}(x, w) b = Relu(a) m = MaxPool<kernel_shape=[2,2]>(b) c = {P}(m, v) d = Relu(c) "
    )
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV)
    assert short(plan)["b"] == "u4 node-input"
    assert ("m", "b") in [(a.tensor, a.of) for a in plan.shared]
    assert {w.node: w.input for w in plan.weights}["@c"] == "b"


def test_demands_are_gathered_through_value_preserving_nodes(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) m = MaxPool<kernel_shape=[2,2]>(b) c = {P}(m, v) s = Add(c, m)
    """
    plan = plan_of(tmp_path, body + HEAD.format("s"), CONV)
    assert short(plan)["b"] == "u8 residual"
    assert short(plan)["m@4"] == "u4 node-input"
    assert next(s for s in plan.activations if s.name == "m@4").tensor == "m"
    assert {w.node: w.input for w in plan.weights}["@c"] == "m@4"


def test_concat_takes_8_bits_and_gives_what_its_readers_want(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) e = Concat<axis=1>(b, d)
        h = {P}(e, t) i = Relu(h)
    """
    plan = plan_of(tmp_path, body + HEAD.format("i"), CONV | {"t": (4, 8, 3, 3)})
    found = short(plan)
    assert [found[n].split()[0] for n in ("b", "b@4", "d", "e")] == ["u8", "u4", "u8", "u4"]


def test_silu_and_squeeze_excite_are_integer_throughout(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Sigmoid(a) c = Mul(a, b) g1 = GlobalAveragePool(c) h = Conv(g1, q)
        i = Sigmoid(h) j = Mul(c, i) l = {P}(j, v) m = LeakyRelu<alpha=0.1>(l)
    """
    plan = plan_of(tmp_path, body + HEAD.format("m"), CONV | {"q": (4, 4, 1, 1)})
    found = short(plan)
    assert plan.floats == ()
    assert [found[n].split()[0] for n in ("a", "b", "c", "g1", "h", "i", "l", "m")] == [
        "s8", "u8", "s8", "s4", "s8", "u8", "s8", "s8",
    ]  # fmt: skip


def test_a_conv_without_demanding_readers_still_gets_8_bits(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Elu(a) c = {P}(b, v) d = Relu(c) "
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV)
    assert short(plan)["a"] == "s8 output"
    assert short(plan)["b"] == "s4 node-input"
    assert [(f.node, f.op) for f in plan.floats] == [("@b", "Elu")]
    assert "no integer kernel for Elu" in plan.floats[0].reason


def test_conv_transpose_is_left_in_float_with_its_reason(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = ConvTranspose(b, v) d = {P}(c, u) "
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV)
    assert [(f.op, f.reason) for f in plan.floats] == [
        ("ConvTranspose", "ONNX Runtime CPU has no integer kernel for ConvTranspose")
    ]


def test_a_last_conv_gets_an_output_quantizer_and_a_last_gemm_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"a = {P}(x, w) b = Relu(a) y = {P}(b, v)", CONV)
    assert short(plan)["y"] == "s8 output"
    assert short(plan)["b"] == "u8 classifier-input feature"
    assert "y" not in short(plan_of(tmp_path, f"a = {P}(x, w) " + HEAD.format("a"), CONV))


def test_nodes_behind_the_last_layer_stay_in_float(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) " + HEAD.format("a").replace("y =", "l =") + " y = Softmax(l)"
    plan = plan_of(tmp_path, body, CONV)
    assert [(f.node, f.op) for f in plan.floats] == [("@y", "Softmax")]
    assert "behind the last layer" in plan.floats[0].reason


def test_a_left_over_batchnorm_reads_and_weighs_8_bits(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) n = BatchNormalization(a, n_g, n_b, n_m, n_v) r = Relu(n)
        c = {P}(r, v) s = Add(a, c)
    """
    plan = plan_of(tmp_path, body + HEAD.format("s"), CONV | batchnorm("n", 4))
    found = short(plan)
    assert [found[n] for n in ("a", "r", "c")] == ["s8 residual", "u4 node-input", "s8 residual"]
    assert [(w.node, w.grid.bits) for w in plan.weights] == [
        ("@a", 4),
        ("@n", 8),
        ("@c", 4),
        ("@y", 4),
    ]


def test_an_input_known_to_be_positive_is_unsigned(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) " + HEAD.format("a")
    assert short(plan_of(tmp_path, body, CONV, signed=False))["x"] == "u8 input"
    assert short(plan_of(tmp_path, body, CONV, signed=True))["x"] == "s8 input"


def test_the_zero_point_is_open_where_values_have_both_signs_and_the_target_has_zero_points(
    tmp_path: Path,
) -> None:
    body = f"a = {P}(x, w) r = Relu(a) c = {P}(r, v) s = LeakyRelu(c) e = {P}(s, u) "
    plan = plan_of(tmp_path, body + HEAD.format("e"), CONV)
    assert all(q.asymmetric is q.grid.signed for q in plan.activations)
    assert {q.asymmetric for q in plan.activations} == {True, False}
    model = through(network(body + HEAD.format("e"), CONV), tmp_path)[1]
    symmetric = replace(ONNXRUNTIME_CPU, activations=INT8)
    plan = place_quantizers(model, W4A4, symmetric, input_signed=True)
    assert {q.grid.signed for q in plan.activations} == {True, False}
    assert not any(q.asymmetric for q in plan.activations)


@pytest.mark.parametrize(
    ("node", "sign"),
    [
        ("Relu(a)", "u"),
        ("Sigmoid(a)", "u"),
        ("LeakyRelu(a)", "s"),
        ("Add(r, r)", "u"),
        ("Add(a, r)", "s"),
        ("Mul(r, r)", "u"),
        ("Concat<axis=1>(r, r)", "u"),
        ("AveragePool<kernel_shape=[2,2]>(r)", "u"),
        ("AveragePool<kernel_shape=[2,2]>(a)", "s"),
    ],
)
def test_a_grid_is_unsigned_only_where_values_cannot_be_negative(
    tmp_path: Path, node: str, sign: str
) -> None:
    channels = 8 if "Concat" in node else 4
    body = f"a = {P}(x, w) r = Relu(a) h = {node} y = {P}(h, t)"
    plan = plan_of(tmp_path, body, CONV | {"t": (4, channels, 3, 3)})
    assert short(plan)["h"].startswith(sign)


def test_a_value_read_twice_before_its_relu_keeps_its_own_quantizer(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) r = Relu(a) c = {P}(r, v) s = Add(c, a) "
    found = short(plan_of(tmp_path, body + HEAD.format("s"), CONV))
    assert found["a"] == "s8 residual"
    assert found["r"] == "u4 node-input"


def test_arithmetic_on_shapes_gets_no_sites(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) q = Shape(b) n = Slice(q, zero, one) t = Concat<axis=0>(n, rest)
        e = Expand(ones, t) m = Mul(b, e) c = {P}(m, v) d = Relu(c)
    """
    shapes = {
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([4, 1, 1]),
        "ones": np.ones((1, 4, 1, 1), np.float32),
    }
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV | shapes)
    assert not {"q", "n", "t"} & {s.tensor for s in plan.activations}
    assert not {"@q", "@n", "@t"} & {f.node for f in plan.floats}


def test_narrow_activations_with_wide_weights_and_the_reverse(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) "
    wide = plan_of(tmp_path, body + HEAD.format("d"), CONV, QuantizationConfig(BitWidths(4, 8)))
    assert ({w.grid.bits for w in wide.weights}, short(wide)["b"][:2]) == ({4}, "u8")
    narrow = plan_of(tmp_path, body + HEAD.format("d"), CONV, QuantizationConfig(BitWidths(8, 2)))
    assert ({w.grid.bits for w in narrow.weights}, short(narrow)["b"][:2]) == ({8}, "u2")


# ---- real networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("export", ["bn", "folded", "dynamo"])
def test_resnet20_has_nine_sums_on_an_8_bit_stream(shared: Path, export: str) -> None:
    model = real_model(shared / "models" / f"cifar10_resnet20_{export}.onnx")
    plan = place_quantizers(model, W4A4, ONNXRUNTIME_CPU, input_signed=True)
    sums = [s for s in plan.activations if s.feature]
    second = [s for s in plan.activations if s.consumers]
    assert len(sums) == 9
    assert {(s.grid.bits, s.grid.signed, s.role) for s in sums} == {(8, False, "residual")}
    read_again = {s.tensor for s in second} & {s.tensor for s in sums}
    assert len(read_again) == 8  # the last sum is read by the pool alone
    assert len(second) == 9  # and the first activation, which starts the stream
    assert {(s.grid.bits, len(s.consumers)) for s in second} == {(4, 1)}
    assert len(plan.weights) == 20
    assert plan.floats == ()
    assert len(plan.shared) == 7  # two shortcuts of Slice, Slice, Pad, and the Flatten


@pytest.mark.parametrize(
    "network_name", ["imagenet_mobilenetv1_025_bn", "third_party/stm_mobilenetv2_050_128"]
)
def test_relu6_networks_have_upper_bounds_and_no_float_layer(
    shared: Path, network_name: str
) -> None:
    model = real_model(shared / "models" / f"{network_name}.onnx")
    plan = place_quantizers(model, W4A4, ONNXRUNTIME_CPU, input_signed=True)
    clips = [n for n in model.ir.graph if n.op_type == "Clip"]
    named = {s.tensor for s in plan.activations if s.clip_max == 6.0 and not s.consumers}
    assert named == {n.outputs[0].name for n in clips}
    assert {f.op for f in plan.floats} <= {"Softmax"}


def all_exports() -> list[str]:
    return [
        *(f"cifar10_resnet20_{e}" for e in ("bn", "folded", "dynamo")),
        *(f"cifar10_{n}_{e}" for n in ("resnet56", "wrn16_1") for e in ("bn", "folded")),
        *("imagenet_mobilenetv1_025_bn", "imagenet_mobilenetv1_025_nhwc_folded"),
        *("own_resnet20_cifar10", "third_party/cntk_mnist", "third_party/winml_cifar10_cnn"),
        *("third_party/stm_mobilenetv2_050_128", "third_party/fastestdet_coco"),
        *("third_party/ultraface_rfb320", "third_party/dnsmos_p808"),
    ]


@pytest.mark.parametrize("name", all_exports())
@pytest.mark.parametrize("bits", [BitWidths(4, 4), BitWidths(8, 8), BitWidths(2, 3)], ids=str)
def test_the_decision_is_whole(shared: Path, name: str, bits: BitWidths) -> None:
    model = real_model(shared / "models" / f"{name}.onnx")
    plan = place_quantizers(model, QuantizationConfig(bits), ONNXRUNTIME_CPU, input_signed=True)
    names = [s.name for s in plan.activations]
    nodes = {str(n.name): n for n in model.ir.graph}
    values = {v.name for n in nodes.values() for v in n.outputs} | {model.input}
    assert len(set(names)) == len(names)
    assert {s.tensor for s in plan.activations} | {a.tensor for a in plan.shared} <= values
    assert {a.of for a in plan.shared} <= set(names)
    layers = {n for n, node in nodes.items() if node.op_type in {"Conv", "Gemm"}}
    assert {w.node for w in plan.weights} == layers
    quantized = {s.tensor: s for s in plan.activations if not s.consumers}
    shared_codes = {a.tensor: a.of for a in plan.shared}
    for quantizer in plan.weights:
        read = str(nodes[quantizer.node].inputs[0].name)
        second = [
            s.name for s in plan.activations if s.tensor == read and quantizer.node in s.consumers
        ]
        expected = second[0] if second else shared_codes.get(read, read)
        assert quantizer.input == expected
    for quantizer in plan.activations:
        if quantizer.consumers:  # a requantizer is narrower than what stands at the producer
            root = quantized[shared_codes.get(quantizer.tensor, quantizer.tensor)]
            assert quantizer.grid.bits < root.grid.bits
            assert quantizer.grid.signed == root.grid.signed


@pytest.mark.parametrize(("fill", "signed"), [(-1.0, True), (0.5, False)])
def test_padding_with_a_negative_number_makes_codes_signed(
    tmp_path: Path, fill: float, signed: bool
) -> None:
    body = f"a = {P}(x, w) b = Relu(a) p = Pad(b, pads, fill) c = Conv(p, v) d = Relu(c) "
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    weights = CONV | {"pads": pads, "fill": np.float32(fill)}
    plan = plan_of(tmp_path, body + HEAD.format("d"), weights)
    assert {s.name: s.grid.signed for s in plan.activations}["p"] is signed
