"""Each normalizing pass: what it makes of a small network, with the numbers unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.model import ORIGIN, NormalizedModel
from dfqonnx.graph.passes.edit import get_constant, get_shape
from tests.graph.smallnets import assert_same, batchnorm, network, only, operators, run, through

CONV = {"w": (4, 3, 3, 3), "b": (4,)}


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def normal(folder: Path, body: str, weights: dict, **options: str | int) -> NormalizedModel:
    """Normalize, check the numbers, return the model."""
    proto = network(body, weights, **options)  # type: ignore[arg-type]
    _, model = through(proto, folder)
    assert_same(proto, model)
    return model


# ---- BatchNormalization -------------------------------------------------------------------------


def test_batchnorm_folds_into_the_conv_before_it_and_leaves_its_statistics(tmp_path: Path) -> None:
    bn = batchnorm("n", 4)
    body = "c = Conv(x, w, b) y = BatchNormalization(c, n_g, n_b, n_m, n_v)"
    model = normal(tmp_path, body, CONV | bn)
    assert operators(model) == {"Conv": 1}
    assert (model.batchnorm, model.batchnorm_nodes) == ("present", 1)
    statistics = model.statistics["y"]
    np.testing.assert_array_equal(statistics.mean, bn["n_b"])
    spread = bn["n_g"] ** 2 * bn["n_v"] / (bn["n_v"] + 1e-5)
    np.testing.assert_allclose(statistics.variance, spread, rtol=1e-6)  # one float32 rounding


def test_statistics_are_those_of_data_whose_moments_the_batchnorm_knows(tmp_path: Path) -> None:
    proto = network(
        "c = Conv(x, w, b) y = BatchNormalization(c, n_g, n_b, n_m, n_v)", CONV | batchnorm("n", 4)
    )
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    head = network("y = Conv(x, w, b)", CONV)
    before = run(head.SerializeToString(), x)[0]
    for tensor in proto.graph.initializer:  # make mean and variance those of this very batch
        if tensor.name in {"n_m", "n_v"}:
            moment = before.mean((0, 2, 3)) if tensor.name == "n_m" else before.var((0, 2, 3))
            tensor.raw_data = moment.astype(np.float32).tobytes()
    _, model = through(proto, tmp_path)
    y = run(ir.to_proto(model.ir).SerializeToString(), x)[0]
    found = model.statistics["y"]
    # float32 means over 2304 numbers of order 1
    np.testing.assert_allclose(y.mean((0, 2, 3)), found.mean, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 2, 3)), found.variance, rtol=1e-4)


def test_a_batchnorm_behind_a_shared_conv_becomes_a_depthwise_conv(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v) y = Add(c, n)"
    model = normal(tmp_path, body, CONV | batchnorm("n", 4))
    assert operators(model) == {"Conv": 2, "Add": 1}
    tagged = [n for n in model.ir.graph if n.metadata_props.get(ORIGIN) == "BatchNormalization"]
    assert [get_shape(n.inputs[1]) for n in tagged] == [(4, 1, 1, 1)]
    assert set(model.statistics) == {"n"}


def test_a_pre_activation_network_keeps_statistics_of_left_over_batchnorms(tmp_path: Path) -> None:
    body = """
        c = Conv<pads=[1,1,1,1]>(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v) r = Relu(n)
        d = Conv<pads=[1,1,1,1]>(r, v) s = Add(c, d) y = Conv(s, k)
    """
    model = normal(
        tmp_path, body, CONV | batchnorm("n", 4) | {"v": (4, 4, 3, 3), "k": (2, 4, 3, 3)}
    )
    assert set(model.statistics) == {"n"}


def test_a_batchnorm_on_features_folds_into_the_gemm_before_it(tmp_path: Path) -> None:
    body = "f = Flatten(x) g = MatMul(f, k) y = BatchNormalization(g, n_g, n_b, n_m, n_v)"
    model = normal(tmp_path, body, {"k": (192, 5)} | batchnorm("n", 5))
    assert operators(model) == {"Flatten": 1, "Gemm": 1}


def test_a_left_over_batchnorm_on_features_passes_through_an_image_of_one_pixel(
    tmp_path: Path,
) -> None:
    body = """
        f = Flatten(x) n = BatchNormalization(f, n_g, n_b, n_m, n_v) y = Gemm<transB=1>(n, k)
    """
    model = normal(tmp_path, body, {"k": (5, 192)} | batchnorm("n", 192))
    assert operators(model)["Conv"] == 1
    assert "BatchNormalization" not in operators(model)
    assert set(model.statistics) == {"n"}


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [(True, True, "present"), (True, False, "partly"), (False, False, "absent")],
)
def test_the_state_tells_whether_some_batchnorms_were_folded_away(
    tmp_path: Path, first: bool, second: bool, state: str
) -> None:
    norm = "{o} = BatchNormalization({i}, n_g, n_b, n_m, n_v)"
    body = "c = Conv(x, w, b) " + (norm if first else "{o} = Identity({i})").format(o="d", i="c")
    body += " e = Relu(d) f = Conv(e, v, b) "
    body += (norm if second else "{o} = Identity({i})").format(o="y", i="f")
    model = normal(tmp_path, body, CONV | {"v": (4, 4, 3, 3)} | batchnorm("n", 4))
    assert model.batchnorm == state


# ---- biases, scales, Gemm -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1), (1,), ()])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_a_constant_per_channel_moves_into_the_conv(
    tmp_path: Path, op: str, shape: tuple[int, ...]
) -> None:
    operand = np.random.default_rng(5).uniform(0.5, 2.0, shape).astype(np.float32)
    model = normal(tmp_path, f"c = Conv(x, w, b) y = {op}(c, a)", CONV | {"a": operand})
    assert operators(model) == {"Conv": 1}


def test_a_constant_that_is_not_per_channel_stays(tmp_path: Path) -> None:
    model = normal(tmp_path, "c = Conv(x, w, b) y = Add(c, a)", CONV | {"a": (6,)})
    assert operators(model) == {"Conv": 1, "Add": 1}


def test_input_normalization_inside_the_graph_becomes_one_depthwise_conv(tmp_path: Path) -> None:
    body = "s = Sub(x, mean) d = Div(s, std) y = Conv<pads=[1,1,1,1]>(d, w, b)"
    std = np.array([0.2, 0.25, 0.3], np.float32).reshape(1, 3, 1, 1)
    model = normal(tmp_path, body, CONV | {"mean": (1, 3, 1, 1), "std": std})
    assert operators(model) == {"Conv": 2}


@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,)])
def test_matmul_and_add_become_one_gemm(tmp_path: Path, bias: tuple[int, ...]) -> None:
    model = normal(
        tmp_path, "f = Flatten(x) m = MatMul(f, k) y = Add(a, m)", {"k": (192, 5), "a": bias}
    )
    gemm = only(model, "Gemm")
    assert operators(model) == {"Flatten": 1, "Gemm": 1}
    assert (get_shape(gemm.inputs[1]), get_shape(gemm.inputs[2])) == ((5, 192), (5,))
    assert gemm.attributes["transB"].as_int() == 1


def test_gemm_factors_and_odd_biases_are_written_into_its_constants(tmp_path: Path) -> None:
    body = "f = Flatten(x) y = Gemm<alpha=0.5, beta=2.0>(f, k, a)"
    model = normal(tmp_path, body, {"k": (192, 5), "a": (1, 5)})
    gemm = only(model, "Gemm")
    assert get_shape(gemm.inputs[1]) == (5, 192)
    assert set(gemm.attributes) == {"transB"}


def test_weights_behind_a_constant_reshape_are_weights(tmp_path: Path) -> None:
    body = "f = Flatten(x) k = Reshape(raw, shape) y = MatMul(f, k)"
    model = normal(tmp_path, body, {"raw": (3, 8, 8, 5), "shape": ints(192, 5)})
    assert operators(model) == {"Flatten": 1, "Gemm": 1}


def test_a_shared_weight_is_copied_before_one_reader_changes_it(tmp_path: Path) -> None:
    body = """
        c = Conv<pads=[1,1,1,1]>(x, w) d = Conv<pads=[1,1,1,1]>(x, w)
        n = BatchNormalization(c, n_g, n_b, n_m, n_v) y = Add(n, d)
    """
    model = normal(tmp_path, body, {"w": (4, 3, 3, 3)} | batchnorm("n", 4))
    weights = [n.inputs[1] for n in model.ir.graph if n.op_type == "Conv"]
    assert weights[0] is not weights[1]


def test_every_layer_owns_its_weight_and_a_bias(tmp_path: Path) -> None:
    body = "c = Conv<pads=[1,1,1,1]>(x, w) d = Conv<pads=[1,1,1,1]>(c, w) y = Conv(d, w, b)"
    model = normal(tmp_path, body, {"w": (3, 3, 3, 3), "b": (3,)})
    values = [v for n in model.ir.graph for v in n.inputs[1:]]
    assert len(values) == len(set(values)) == 6
    assert all(len(v.uses()) == 1 for v in values if v is not None)


def test_weight_names_survive_folding(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) y = BatchNormalization(c, n_g, n_b, n_m, n_v)"
    model = normal(tmp_path, body, CONV | batchnorm("n", 4))
    assert [v.name for v in only(model, "Conv").inputs if v is not None] == ["x", "w", "b"]


# ---- windows and pools --------------------------------------------------------------------------


def test_zero_padding_moves_into_the_conv(tmp_path: Path) -> None:
    body = "p = Pad(x, pads) y = Conv<pads=[0,0,0,0]>(p, w, b)"
    model = normal(tmp_path, body, CONV | {"pads": ints(0, 0, 0, 1, 0, 0, 1, 2)})
    assert operators(model) == {"Conv": 1}
    assert list(only(model, "Conv").attributes["pads"].as_ints()) == [0, 1, 1, 2]


def test_zero_padding_moves_into_an_average_pool_and_is_counted_there(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) p = Pad(c, pads) y = AveragePool<kernel_shape=[3,3]>(p)"
    model = normal(tmp_path, body, CONV | {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)})
    assert operators(model) == {"Conv": 1, "AveragePool": 1}


@pytest.mark.parametrize(
    "pad",
    [
        'Pad<mode="reflect">(x, pads)',
        "Pad(x, pads, one)",
        "Pad(x, channels)",
    ],
)
def test_padding_that_a_conv_cannot_do_stays(tmp_path: Path, pad: str) -> None:
    weights = {
        "w": (4, 4 if "channels" in pad else 3, 3, 3),
        "pads": ints(0, 0, 1, 1, 0, 0, 1, 1),
        "channels": ints(0, 1, 0, 0, 0, 0, 0, 0),
        "one": np.array(1.0, np.float32),
    }
    model = normal(tmp_path, f"p = {pad} y = Conv(p, w)", weights)
    assert operators(model) == {"Pad": 1, "Conv": 1}


def test_padding_with_another_reader_stays_for_that_reader(tmp_path: Path) -> None:
    # Relu first: ONNX Runtime 1.31 moves zero padding into MaxPool, which is wrong for negatives
    body = """
        r = Relu(x) p = Pad(r, pads) c = Conv(p, w, b) m = MaxPool<kernel_shape=[3,3]>(p)
        y = Concat<axis=1>(c, m)
    """
    model = normal(tmp_path, body, CONV | {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)})
    assert operators(model)["Pad"] == 1
    assert only(model, "Conv").inputs[0] is only(model, "Relu").outputs[0]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_auto_pad_becomes_explicit(tmp_path: Path, mode: str, stride: int) -> None:
    body = f'y = Conv<auto_pad="{mode}", strides=[{stride},{stride}], kernel_shape=[3,3]>(x, w, b)'
    conv = only(normal(tmp_path, body, CONV), "Conv")
    assert "auto_pad" not in conv.attributes
    assert len(conv.attributes["pads"].as_ints()) == 4


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER"])
def test_auto_pad_of_pools_becomes_explicit(tmp_path: Path, pad: str) -> None:
    body = f'c = Conv(x, w, b) y = MaxPool<auto_pad="{pad}", strides=[2,2], kernel_shape=[3,3]>(c)'
    assert "auto_pad" not in only(normal(tmp_path, body, CONV), "MaxPool").attributes


@pytest.mark.parametrize(("opset", "form"), [(13, "attribute"), (18, "input")])
@pytest.mark.parametrize("keep", [0, 1])
def test_reduce_mean_over_the_image_becomes_a_global_pool(
    tmp_path: Path, opset: int, form: str, keep: int
) -> None:
    axes = "<axes=[2,-1], keepdims={}>(c)" if form == "attribute" else "<keepdims={}>(c, axes)"
    body = f"c = Conv(x, w, b) y = ReduceMean{axes.format(keep)}"
    model = normal(tmp_path, body, CONV | {"axes": ints(-1, 2)}, opset=opset)
    expected = {"Conv": 1, "GlobalAveragePool": 1} | ({} if keep else {"Flatten": 1})
    assert operators(model) == expected


def test_reduce_mean_in_channels_last_reads_before_the_transpose(tmp_path: Path) -> None:
    body = """
        c = Conv(x, w, b) t = Transpose<perm=[0,2,3,1]>(c)
        y = ReduceMean<axes=[1,2], keepdims=0>(t)
    """
    model = normal(tmp_path, body, CONV, opset=13)
    assert operators(model) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1}


def test_reduce_mean_over_channels_stays(tmp_path: Path) -> None:
    model = normal(tmp_path, "c = Conv(x, w, b) y = ReduceMean<axes=[1]>(c)", CONV, opset=13)
    assert operators(model) == {"Conv": 1, "ReduceMean": 1}


def test_an_average_pool_of_the_whole_image_becomes_a_global_pool(tmp_path: Path) -> None:
    model = normal(tmp_path, "c = Conv(x, w, b) y = AveragePool<kernel_shape=[6,6]>(c)", CONV)
    assert operators(model) == {"Conv": 1, "GlobalAveragePool": 1}


# ---- heads, reshapes, clamps, identities --------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        "y = Flatten(c)",
        "y = Squeeze(c, axes)",
        "y = Reshape(c, target)",
        "f = Flatten(c) y = Softmax(f)",
    ],
)
def test_a_last_conv_on_one_pixel_becomes_a_gemm(tmp_path: Path, tail: str) -> None:
    weights = {"w": (5, 3, 1, 1), "b": (5,), "axes": ints(2, 3), "target": ints(-1, 5)}
    model = normal(tmp_path, f"g = GlobalAveragePool(x) c = Conv(g, w, b) {tail}", weights)
    kinds = [n.op_type for n in model.ir.graph if n.op_type != "Softmax"]
    assert kinds == ["GlobalAveragePool", "Flatten", "Gemm"]


def test_a_last_conv_that_covers_the_image_becomes_a_gemm(tmp_path: Path) -> None:
    model = normal(tmp_path, "c = Conv(x, w) y = Flatten(c)", {"w": (5, 3, 8, 8)})
    assert [n.op_type for n in model.ir.graph] == ["Flatten", "Gemm"]


def test_a_last_conv_that_is_the_output_keeps_its_shape(tmp_path: Path) -> None:
    model = normal(tmp_path, "g = GlobalAveragePool(x) y = Conv(g, w)", {"w": (5, 3, 1, 1)})
    assert operators(model)["Gemm"] == 1
    assert get_shape(model.ir.graph.outputs[0]) == ("N", 5, 1, 1)


def test_convs_of_a_squeeze_and_excite_block_stay(tmp_path: Path) -> None:
    body = """
        c = Conv(x, w, b) g = GlobalAveragePool(c) s = Conv(g, v) t = Sigmoid(s) m = Mul(c, t)
        y = Conv(m, k)
    """
    model = normal(tmp_path, body, CONV | {"v": (4, 4, 1, 1), "k": (2, 4, 3, 3)})
    assert operators(model)["Conv"] == 3


def test_a_chain_of_reshapes_is_one(tmp_path: Path) -> None:
    body = "a = Reshape(x, s) b = Unsqueeze(a, o) c = Flatten(b) y = Gemm<transB=1>(c, k)"
    weights = {"s": ints(0, 3, 64), "o": ints(2), "k": (5, 192)}
    assert operators(normal(tmp_path, body, weights)) == {"Flatten": 1, "Gemm": 1}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("m = Max(c, zero) y = Min(m, six)", "Clip"),
        ("y = Clip(c, zero, six)", "Clip"),
        ("m = Clip(c, zero) y = Clip(m, , six)", "Clip"),
        ("y = Max(zero, c)", "Relu"),
        ("y = Clip(c, zero)", "Relu"),
        ("y = Clip(c, zero, huge)", "Relu"),
    ],
)
def test_clamps_have_one_spelling(tmp_path: Path, body: str, kind: str) -> None:
    bounds = {"zero": np.float32(0), "six": np.float32(6), "huge": np.finfo(np.float32).max}
    model = normal(tmp_path, "c = Conv(x, w, b) " + body, CONV | bounds)
    assert operators(model) == {"Conv": 1, kind: 1}


def test_clip_attributes_of_old_opsets_become_constant_inputs(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) y = Clip<min=0.0, max=6.0>(c)"
    clip = only(normal(tmp_path, body, CONV, opset=9), "Clip")
    assert [float(get_constant(v)) for v in clip.inputs[1:]] == [0.0, 6.0]  # type: ignore[arg-type]


def test_identity_and_dropout_vanish_and_output_names_stay(tmp_path: Path) -> None:
    body = "i = Identity(x) c = Conv(i, w, b) d = Dropout(c) r = Relu(d) y = Identity(r)"
    model = normal(tmp_path, body, CONV)
    assert operators(model) == {"Conv": 1, "Relu": 1}
    assert [v.name for v in model.ir.graph.outputs] == ["y"]


def test_a_weight_behind_an_identity_is_a_weight(tmp_path: Path) -> None:
    model = normal(tmp_path, "i = Identity(w) y = Conv(x, i, b)", CONV)
    assert operators(model) == {"Conv": 1}


# ---- constants, shapes, names -------------------------------------------------------------------


def test_shape_arithmetic_with_a_free_batch_becomes_a_constant_target(tmp_path: Path) -> None:
    body = """
        c = Conv(x, w, b) s = Shape(c) n = Gather<axis=0>(s, zero) u = Unsqueeze(n, o)
        t = Concat<axis=0>(u, minus) f = Reshape(c, t) y = Gemm<transB=1>(f, k)
    """
    weights = CONV | {"zero": np.int64(0), "o": ints(0), "minus": ints(-1), "k": (5, 144)}
    model = normal(tmp_path, body, weights)
    assert operators(model) == {"Conv": 1, "Reshape": 1, "Gemm": 1}
    assert list(get_constant(only(model, "Reshape").inputs[1])) == [0, 144]  # type: ignore[arg-type]


def test_images_merged_into_the_batch_axis_and_back_fit_any_batch(tmp_path: Path) -> None:
    """As channel shuffles are exported: N is multiplied into the leading axis, then taken out."""
    body = """
        a = Reshape(x, s) t = Transpose<perm=[1,0,2]>(a) q = Reshape(t, r)
        b = Gather<axis=0>(q, zero) y = Conv(b, w)
    """
    weights = {"s": ints(2, 2, 64), "r": ints(2, -1, 2, 8, 8), "w": (4, 2, 3, 3)}
    model = normal(tmp_path, body, weights | {"zero": np.int64(0)}, image="float[1,4,8,8] x")
    assert operators(model)["Conv"] == 1


@pytest.mark.parametrize("target", [(1, 192), (1, -1), (-1, 192), (0, 192)])
def test_a_fixed_batch_baked_into_a_reshape_is_freed(
    tmp_path: Path, target: tuple[int, int]
) -> None:
    body = "f = Reshape(x, s) y = Gemm<transB=1>(f, k)"
    fixed = {"image": "float[1,3,8,8] x", "result": "float[1,5] y"}
    model = normal(tmp_path, body, {"s": ints(*target), "k": (5, 192)}, **fixed)
    assert get_shape(model.ir.graph.outputs[0]) == ("N", 5)
    assert model.contract.inputs[0].shape == (1, 3, 8, 8)
    assert model.contract.outputs[0].shape == (1, 5)


def test_squeeze_without_axes_keeps_the_batch_axis(tmp_path: Path) -> None:
    body = """
        c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) s = Squeeze(g)
        y = Gemm<transB=1>(s, k)
    """
    proto = network(body, {"w": (4, 3, 3, 3), "k": (5, 4)})
    _, model = through(proto, tmp_path)
    out = run(ir.to_proto(model.ir).SerializeToString(), np.ones((1, 3, 8, 8), np.float32))
    assert out[0].shape == (1, 5)


@pytest.mark.parametrize("image", ["float[1,3,8,8] x", "float[N,3,8,8] x"])
def test_resizing_to_a_size_with_the_batch_in_it_fits_any_batch(tmp_path: Path, image: str) -> None:
    body = """
        c = Conv<pads=[1,1,1,1]>(x, w, b) s = Shape(c) n = Slice(s, zero, two)
        t = Concat<axis=0>(n, size) y = Resize<mode="linear">(c, , , t)
    """
    weights = CONV | {"zero": ints(0), "two": ints(2), "size": ints(12, 20)}
    model = normal(tmp_path, body, weights, image=image)
    assert operators(model) == {"Conv": 1, "Resize": 1}
    assert get_shape(model.ir.graph.outputs[0]) == ("N", 4, 12, 20)


def test_resizing_with_a_baked_in_batch_is_freed(tmp_path: Path) -> None:
    body = "c = Conv<pads=[1,1,1,1]>(x, w, b) y = Resize(c, , , s)"
    model = normal(tmp_path, body, CONV | {"s": ints(1, 4, 16, 16)}, image="float[1,3,8,8] x")
    assert get_shape(model.ir.graph.outputs[0]) == ("N", 4, 16, 16)


def test_a_network_that_drops_the_batch_is_refused_at_its_output(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) y = Slice(c, zero, one, zero)"
    proto = network(body, CONV | {"zero": ints(0), "one": ints(1)})
    with pytest.raises(UnsupportedModel, match="its output 'y' has 1 rows for any batch"):
        through(proto, tmp_path)


def test_a_network_of_one_image_is_cut_where_it_drops_the_batch(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) y = Slice(c, zero, one, zero)"
    proto = network(body, CONV | {"zero": ints(0), "one": ints(1)}, image="float[1,3,8,8] x")
    _, model = through(proto, tmp_path)
    assert model.training_outputs == ("c",)
    assert "1 rows for any batch" in next(iter(model.unsupported.values()))


def test_shapes_that_do_not_fit_are_refused_by_node(tmp_path: Path) -> None:
    proto = network("c = Conv(x, w, b) y = MatMul(c, k)", CONV | {"k": (5, 4)})
    proto.graph.node[1].name = "misfit"
    with pytest.raises(UnsupportedModel, match=r"misfit \(MatMul\)"):
        through(proto, tmp_path)


def test_half_precision_weights_behind_a_cast_are_folded(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float16)
    model = normal(tmp_path, "f = Cast<to=1>(w) y = Conv(x, f)", {"w": weight})
    assert operators(model) == {"Conv": 1}


def test_every_value_has_a_type_and_a_shape_and_names_are_unique(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = MatMul(f, k)"
    model = normal(tmp_path, body, CONV | {"k": (4, 5)})
    nodes = list(model.ir.graph)
    values = [v for n in nodes for v in n.outputs]
    assert all(v.type is not None and None not in (get_shape(v) or (None,)) for v in values)
    assert [get_shape(v) for v in values] == [
        ("N", 4, 6, 6), ("N", 4, 6, 6), ("N", 4, 1, 1), ("N", 4), ("N", 5),
    ]  # fmt: skip
    assert len({n.name for n in nodes}) == len(nodes)
    assert all(n.name for n in nodes)


def test_names_given_twice_are_told_apart(tmp_path: Path) -> None:
    proto = network("c = Conv(x, w, b) r = Relu(c) y = Relu(r)", CONV)
    for node in proto.graph.node:
        node.name = "same"
    _, model = through(proto, tmp_path)
    assert [n.name for n in model.ir.graph] == ["same", "same_2", "same_3"]


def test_metadata_of_the_file_stays(tmp_path: Path) -> None:
    proto = network("y = Conv(x, w, b)", CONV, opset=11)
    proto.metadata_props.add(key="author", value="someone")
    _, model = through(proto, tmp_path)
    assert model.ir.metadata_props["author"] == "someone"


@pytest.mark.parametrize(
    ("tail", "logits"),
    [
        ("y = Softmax(g)", "g"),
        ("s = Softmax(g) y = Identity(s)", "g"),
        ("s = LogSoftmax(g) y = Reshape(s, t)", "g"),
        ("y = Sigmoid(g)", "y"),
    ],
)
def test_logits_are_what_a_final_softmax_reads(tmp_path: Path, tail: str, logits: str) -> None:
    body = f"f = Flatten(x) g = Gemm<transB=1>(f, k) {tail}"
    model = normal(tmp_path, body, {"k": (5, 192), "t": ints(0, 5, 1)})
    assert model.logits == logits
