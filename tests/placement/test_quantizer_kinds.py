"""Kinds of quantizers: axes of weights, widths of every reader, signs, shared codes, marks.

What a grid must be able to hold is told by ONNX Runtime: the float values of the same network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.export.rough import run_floats
from tests.graph.smallnets import image_batch, only
from tests.placement.plans import CONV, HEAD, W4A4, P, normalized, place, plan_of, short

TOKENS = "float[N,6,12] x"


def test_every_weight_has_as_many_scales_as_its_node_has_output_channels(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) d = Conv<group=4>(b, deep) q = Reshape(d, rows)
        m = MatMul(q, n) r = Relu(m) o = MatMul(r, n2) f = Flatten(o) h = MatMul(f, k2)
        s = Relu(h) t = Gemm(s, k3) z = Relu(t) y = Gemm<transB=1>(z, k4)
    """
    weights = {
        "w": (4, 3, 3, 3), "deep": (8, 1, 3, 3), "rows": np.array([0, 9, 32]), "n": (32, 7),
        "n2": (7, 11), "k2": (99, 13), "k3": (13, 6), "k4": (5, 6),
    }  # fmt: skip
    model = normalized(tmp_path, body, weights)
    plan = place(model)
    values = run_floats(model, image_batch(model, 2))
    channels = {"Conv": 1, "Gemm": 1, "MatMul": 2}  # the axis of what the node makes
    assert sorted({w.op for w in plan.weights}) == ["Conv", "Gemm", "MatMul"]
    for node in model.ir.graph:
        for weight in [w for w in plan.weights if w.node == node.name]:
            made = values[str(node.outputs[0].name)].shape[channels[weight.op]]
            array = model.ir.graph.initializers[weight.weight].const_value.numpy()
            assert array.shape[weight.axis] == made
            assert [size == made for size in array.shape].count(True) == 1, "the sizes tell axes"
    assert len(plan.weights) == 7


def test_the_last_matmul_gives_floats_and_one_within_the_network_codes(tmp_path: Path) -> None:
    weights = {"n": (12, 7), "n2": (7, 11), "n3": (11, 4)}
    body = "a = MatMul(x, n) e = Elu(a) b = MatMul(e, n2) r = Relu(b) y = MatMul(r, n3)"
    plan = plan_of(tmp_path, body, weights, image=TOKENS, result="float[N,6,K] y")
    assert "a" in short(plan)
    assert "y" not in short(plan)


def test_grids_hold_every_value_that_the_float_network_makes(tmp_path: Path) -> None:
    bounds = {"lo": np.float32(-1), "zero": np.float32(0), "six": np.float32(0.5)}
    body = f"""
        a = {P}(x, w) r = Relu(a) c = Clip(a, lo, six) b = {P}(c, v) d = Clip(b, zero, six)
        e = Add(r, mixed) h = {P}(e, u) i = Resize<mode="cubic">(r, , scales) j = {P}(i, u)
        l = Resize<mode="linear">(r, , scales) n = {P}(l, u) o = Concat<axis=1>(r, a)
        q = {P}(o, t) s = Mul(d, r) z = {P}(s, v) p = Pad(r, pads, lo) p2 = {P}(p, v)
        hs = HardSwish(q) hc = {P}(hs, v) sig = Sigmoid(a) sc = {P}(sig, v)
        s1 = Add(h, z) s2 = Add(s1, hc) s3 = Add(s2, sc) s4 = Add(j, n)
        g1 = GlobalAveragePool(s4) g2 = GlobalAveragePool(p2) t1 = Add(g1, g2)
        g = GlobalAveragePool(s3) gg = Add(g, t1) f = Flatten(gg) y = Gemm<transB=1>(f, k)
    """
    mixed = np.linspace(-2, 1, 64).astype(np.float32).reshape(1, 1, 8, 8)
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    weights = CONV | bounds | {
        "t": (4, 8, 3, 3), "mixed": mixed, "scales": np.float32([1, 1, 2, 2]), "pads": pads,
    }  # fmt: skip
    model = normalized(tmp_path, body, weights)
    values = run_floats(model, 2 * image_batch(model, 8))
    plan = place(model)
    found = {q.name: q for q in plan.activations}
    for name, quantizer in found.items():
        lowest = float(values[quantizer.tensor].min())
        assert quantizer.grid.signed or lowest >= 0, name
        assert quantizer.clip_max is None or values[quantizer.tensor].max() <= quantizer.clip_max
    # an unsigned grid has twice the levels: none is given away where values cannot be negative
    assert not any(found[name].grid.signed for name in ("r", "d", "l", "s", "sig"))
    assert all(found[name].grid.signed for name in ("c", "e", "i", "o", "p", "hs"))
    assert found["d"].clip_max == 0.5
    assert found["c"].clip_max is None


@pytest.mark.parametrize("before", ["Conv", "Sigmoid", "AveragePool<kernel_shape=[2,2]>"])
def test_codes_in_front_of_a_hard_swish_begin_at_minus_three(before: str, tmp_path: Path) -> None:
    node = "Conv(r, v)" if before == "Conv" else f"{before}(r)"
    body = f"a = {P}(x, w) r = Relu(a) b = {node} h = HardSwish(b) c = {P}(h, v) "
    plan = plan_of(tmp_path, body + HEAD.format("c"), CONV)
    (quantizer,) = [q for q in plan.activations if q.unit is not None]
    assert quantizer.tensor == "b"
    assert quantizer.unit == 3.0
    assert quantizer.asymmetric
    for scale in (0.001, 0.0125, 0.1, 1.0, 10.0):
        grid, steps = quantizer.grid_of_unit(scale), quantizer.steps(scale)
        low, high = grid.limits
        assert low == -steps  # the smallest code is that of -3, at the scale 3 / steps
        assert high >= 1
        assert high - low == 255


def test_a_reader_of_fewer_bits_is_named_once_however_often_it_reads(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) s = Add(b, b) c = {P}(b, v) t = Add(s, c) "
    quant = QuantizationConfig(BitWidths(8, 8), residual_bits=4)
    plan = plan_of(tmp_path, body + HEAD.format("t"), CONV, quant)
    (narrow,) = [q for q in plan.activations if q.tensor == "b" and q.consumers]
    assert (narrow.name, narrow.grid.bits, narrow.consumers) == ("b@4", 4, ("@s",))
    assert {w.node: w.input for w in plan.weights}["@c"] == "b"


def test_a_value_handed_over_as_a_second_input_shares_no_codes(tmp_path: Path) -> None:
    """Scales of a Resize that are computed: the maps share codes with the image, not with them."""
    body = f"a = {P}(x, w) b = Relu(a) r = Resize(b, , scales) c = {P}(r, v) "
    weights = CONV | {"scales": np.float32([1, 1, 2, 2])}
    model = normalized(tmp_path, body + HEAD.format("c"), weights)
    resize = only(model, "Resize")
    source = resize.inputs[0]
    assert source is not None
    pool = ir.node("GlobalAveragePool", [source], name="@p")
    pool.outputs[0].name, pool.outputs[0].dtype = "p", ir.DataType.FLOAT
    model.ir.graph.insert_before(resize, pool)
    resize.replace_input_with(len(resize.inputs) - 1, pool.outputs[0])
    plan = place(model)
    assert [(s.tensor, s.of) for s in plan.shared if s.node == "@r"] == [("r", "b")]
    assert {w.node: w.input for w in plan.weights}["@c"] == "r@4"


def test_indices_beside_maxima_have_no_codes(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) m, i = MaxPool<kernel_shape=[2,2]>(b) c = {P}(m, v) "
    plan = plan_of(tmp_path, body + HEAD.format("c"), CONV, result="float[N,K] y, int64[N,4,7,7] i")
    assert [s.tensor for s in plan.shared] == ["m", "f"]
    assert "i" not in short(plan)


def test_blocks_are_counted_from_the_last_layer_but_the_classifier(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) "
    plan = plan_of(tmp_path, body + HEAD.format("d"), CONV)
    assert [q.name for q in plan.activations if q.feature] == ["d"]


def test_a_sum_closes_a_block_once_whoever_reads_it_with_fewer_bits(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) c = {P}(b, v) s = Add(c, b) r = Relu(s)
        d = {P}(r, u) t = Add(d, r)
    """
    plan = plan_of(tmp_path, body + HEAD.format("t"), CONV)
    assert "r@4" in short(plan)
    assert [q.name for q in plan.activations if q.feature] == ["r", "t"]


@pytest.mark.parametrize(("channels", "groups", "isolated"), [
    (16, 1, False), (15, 1, True), (32, 2, False), (32, 4, True), (3, 1, True),
])  # fmt: skip
def test_a_volume_takes_the_kernel_that_the_target_says_is_faster(
    channels: int, groups: int, isolated: bool, tmp_path: Path
) -> None:
    least = ONNXRUNTIME_CPU.kernels["Conv"].volume_channels
    assert isolated is (channels // groups < least)
    body = f"y = Conv<group={groups}>(x, w)"
    plan = plan_of(
        tmp_path, body, {"w": (8, channels // groups, 3, 3, 3)},
        image=f"float[N,{channels},4,4,4] x", result="float[N,8,2,2,2] y",
    )  # fmt: skip
    assert [w.node for w in plan.weights] == ["@y"], "its weight is quantized all the same"
    assert (plan.isolated == ("@y",)) is isolated


def test_only_float_nodes_behind_the_last_layer_read_the_image_as_it_is(tmp_path: Path) -> None:
    body = f"e = Elu(x) a = {P}(e, w) b = {P}(x, w2) s = Add(a, b) c = {P}(s, v) z = Elu(x) "
    plan = plan_of(
        tmp_path, body + HEAD.format("c"), CONV | {"w2": (4, 3, 3, 3)},
        result="float[N,K] y, float[N,3,8,8] z",
    )  # fmt: skip
    image = next(q for q in plan.activations if q.name == "x")
    assert image.raw == ("@z",)
    assert {f.node for f in plan.floats} == {"@e", "@z"}


def test_a_layer_with_widths_of_its_own_reads_and_weighs_by_them(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = {P}(x, w2) s = Add(a, b) c = {P}(s, v) z = Elu(x) "
    body += HEAD.format("c")
    result = "float[N,K] y, float[N,3,8,8] z"
    model = normalized(tmp_path, body, CONV | {"w2": (4, 3, 3, 3)}, result=result)
    rules = NodeRules(bits_for=(("@a", BitWidths(2, 5)), ("@c", BitWidths(7, 3))))
    quant = QuantizationConfig(BitWidths(4, 4), first_last_bits=6)
    plan = place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True, rules=rules)
    assert {w.node: w.grid.bits for w in plan.weights} == {"@a": 2, "@b": 6, "@c": 7, "@y": 6}
    widths = {q.name: q.grid.bits for q in plan.activations}
    assert {w.node: widths[w.input] for w in plan.weights} == {"@a": 5, "@b": 8, "@c": 3, "@y": 8}
    narrow = next(q for q in plan.activations if q.consumers == ("@a",))
    assert (narrow.tensor, narrow.raw) == ("x", ())


def test_a_node_to_be_kept_in_float_has_no_quantized_weight_and_its_reason(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) "
    model = normalized(tmp_path, body + HEAD.format("d"), CONV)
    plan = place_quantizers(
        model, W4A4, ONNXRUNTIME_CPU, input_signed=True, kept_float={"@c": "asked for"}
    )
    assert ("@c", "asked for") in [(f.node, f.reason) for f in plan.floats]
    assert [w.node for w in plan.weights] == ["@a", "@y"]
