"""What the passes could not rewrite, and the reason that people read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dfqonnx.graph.normalize import PASSES
from dfqonnx.graph.passes.pass_result import PassResult
from tests.graph.smallnets import batchnorm, network, through

CONV = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4, 3, 3)}
PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
SHARED = "the output of Conv_c (Conv) before it has other readers"
CASES = {  # body, weights, node, pass, reason
    "a Conv that others read": (
        "c = Conv(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v) y = Add(c, n)",
        CONV | batchnorm("n", 4),
        ("BatchNormalization_n", "fold_batchnorms", SHARED),
    ),
    "a BatchNormalization whose scale is computed": (
        """
        c = Conv(x, w, b) g = ReduceMean<keepdims=0>(c, o)
        n = BatchNormalization(c, g, n_b, n_m, n_v) y = Relu(n)
        """,
        CONV | batchnorm("n", 4) | {"o": np.array([0, 2, 3], np.int64)},
        ("BatchNormalization_n", "fold_batchnorms", "its parameters are computed"),
    ),
    "a bias for one of two readers": (
        "c = Conv(x, w, b) a = Add(c, k) y = Mul(a, c)",
        CONV | {"k": (4, 1, 1)},
        ("Add_a", "fold_affines", SHARED),
    ),
    "a hard sigmoid's constant is no bias": (
        "c = Conv(x, w, b) a = Add(c, k) y = Mul(a, c)",
        CONV | {"k": np.float32(3)},
        None,
    ),
    "padding by reflection": (
        'p = Pad<mode="reflect">(x, pads) y = Conv(p, w, b)',
        CONV | {"pads": PADS},
        ("Pad_p", "fold_pads", "it pads in mode reflect, and a layer pads with zeros only"),
    ),
    "padding with ones": (
        "p = Pad(x, pads, one) y = Conv(p, w, b)",
        CONV | {"pads": PADS, "one": np.float32(1)},
        ("Pad_p", "fold_pads", "it pads with 1, and a layer pads with zeros only"),
    ),
    "padding of channels": (
        "p = Pad(x, pads) y = Conv(p, v, b)",
        CONV | {"pads": np.array([0, 1, 0, 0, 0, 0, 0, 0], np.int64)},
        ("Pad_p", "fold_pads", "it pads or crops more than the axes of the image"),
    ),
    "padding that nobody could take over": (
        'p = Pad<mode="reflect">(x, pads) r = Relu(p) y = Conv(r, w, b)',
        CONV | {"pads": PADS},
        None,
    ),
    "padding as wide as the window": (
        "c = Conv(x, w, b) p = Pad(c, pads) y = AveragePool<kernel_shape=[1,1]>(p)",
        CONV | {"pads": PADS},
        (
            "Pad_p",
            "fold_pads",
            "AveragePool_y (AveragePool) behind it has a window that is not larger than the"
            " padding",
        ),
    ),
    "a product of three axes": (
        "c = Conv(x, w, b) r = Reshape(c, s) y = MatMul(r, k)",
        CONV | {"s": np.array([0, 4, 36], np.int64), "k": (36, 5)},
        ("MatMul_y", "convert_matmul_to_gemm", "a Gemm reads 2 axes, and its input has 3"),
    ),
    "a product of two computed operands": (
        "c = Conv(x, w, b) t = Transpose<perm=[0,1,3,2]>(c) y = MatMul(c, t)",
        CONV,
        None,
    ),
    "a head in groups": (
        "g = GlobalAveragePool(x) y = Conv<group=3>(g, h)",
        {"h": (6, 1, 1, 1)},
        (
            "Conv_y",
            "convert_conv_head_to_gemm",
            "it works in 3 groups, and a Gemm has none",
        ),
    ),
    "a bound that is computed": (
        "c = Conv(x, w, b) m = ReduceMax<keepdims=0>(c) y = Clip(c, , m)",
        CONV,
        ("Clip_y", "merge_clips", "its bounds are computed"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reasons_are_kept_where_a_rewrite_was_near(tmp_path: Path, name: str) -> None:
    body, weights, expected = CASES[name]
    proto = network(body, weights, opset=18, image="float[1,3,8,8] x")
    _, model = through(proto, tmp_path)
    found = [(s.node, s.rewrite, s.reason) for s in model.skipped]
    assert found == ([] if expected is None else [expected])


def test_open_sizes_keep_auto_pad_and_say_so(tmp_path: Path) -> None:
    body = 'y = Conv<auto_pad="SAME_UPPER", kernel_shape=[3,3]>(x, w, b)'
    _, model = through(network(body, CONV, image="float[N,3,H,W] x"), tmp_path)
    (skipped,) = model.skipped
    assert (skipped.node, skipped.op, skipped.rewrite) == ("Conv_y", "Conv", "make_pads_explicit")
    assert skipped.reason.startswith("its auto_pad (SAME_UPPER) stays")


def test_a_plain_network_skips_nothing(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v) y = Relu(n)"
    _, model = through(network(body, CONV | batchnorm("n", 4)), tmp_path)
    assert model.skipped == ()


def test_every_pass_reports_what_it_did(tmp_path: Path) -> None:
    _, model = through(network("c = Conv(x, w, b) y = Relu(c)", CONV), tmp_path)
    passes = [step for entry in PASSES for step in (entry if isinstance(entry, tuple) else [entry])]
    before = ir.to_proto(model.ir).SerializeToString(deterministic=True)
    for step in passes:
        assert isinstance(step(model.ir), PassResult), step
    # a normalized graph stays as it is
    assert ir.to_proto(model.ir).SerializeToString(deterministic=True) == before


def test_the_state_is_known_at_open_image_sizes(tmp_path: Path) -> None:
    body = """
        c = Conv(x, w, b) d = BatchNormalization(c, n_g, n_b, n_m, n_v) e = Relu(d)
        y = Conv(e, v, b)
    """
    proto = network(body, CONV | batchnorm("n", 4), image="float[N,3,H,W] x")
    assert through(proto, tmp_path)[1].batchnorm == "partly"
