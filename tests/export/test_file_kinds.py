"""Kinds of files: outputs in any order and type, nodes kept apart, HardSwish, data beside the file.

Parameters before any training against closed forms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from dfqonnx.core.quantization import BitWidths, IntegerRange
from dfqonnx.core.quantization_plan import (
    ActivationQuantizer,
    QuantizationPlan,
    WeightQuantizer,
)
from dfqonnx.export.export import export, tidy
from dfqonnx.export.untrained import set_untrained_parameters
from dfqonnx.export.writer import write
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from tests.export.ortrun import run
from tests.export.qnets import Exported, Net, chain, export_net, residual
from tests.graph.smallnets import network, save

SIXTH = 1 / 6


def _nodes(found: Exported) -> dict[str, onnx.NodeProto]:
    return {node.name: node for node in found.proto.graph.node if node.name}


# ---- inputs and outputs -------------------------------------------------------------------------


def test_outputs_keep_order_name_type_and_axes_whatever_they_are_called(tmp_path: Path) -> None:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4), name="zeta")
    b = net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3), pads=[1] * 4), name="alpha")
    net.head(b, 8)
    proto = net.proto()
    for name, shape in ((a, ("N", 8, 8, 8)), (b, ("N", 8, "tall", "wide"))):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    found = export_net(proto, tmp_path)
    assert [o.name for o in found.proto.graph.output] == ["fc_out", "zeta_out", "alpha_out"]
    dims = [
        [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim]
        for o in found.proto.graph.output
    ]
    assert dims == [["N", 5], ["N", 8, 8, 8], ["N", 8, "tall", "wide"]]
    half = tuple(replace(p, dtype=TensorProto.FLOAT16) for p in found.model.contract.outputs)
    model = replace(found.model, contract=replace(found.model.contract, outputs=half))
    write(export(model, found.plan, found.params), tmp_path / "half.onnx")
    full, small = (
        ReferenceEvaluator(onnx.load(path)).run(None, {"image": found.x})
        for path in (found.path, tmp_path / "half.onnx")
    )
    for wanted, got in zip(full, small, strict=True):
        assert got.dtype == np.float16
        np.testing.assert_array_equal(got, wanted.astype(np.float16))


def test_a_constant_that_is_an_output_stays_in_the_file() -> None:
    held, spare = (
        ir.Value(name=name, const_value=ir.tensor(np.float32([1, 2]), name=name))
        for name in ("anchors", "spare")
    )
    graph = ir.Graph([], [held], nodes=[], initializers=[held, spare], opset_imports={"": 21})
    tidy(ir.Model(graph, ir_version=10))
    assert list(graph.initializers) == ["anchors"]


# ---- nodes kept apart ---------------------------------------------------------------------------


def _isolating(*names: str) -> Callable[[QuantizationPlan], QuantizationPlan]:
    return lambda plan: replace(plan, isolated=names)


def _attention() -> Net:
    """A product of two computed values, and a layer whose Relu is quantized."""
    net = Net(("N", 4, 6))
    net.constant("w1", net.rng.normal(size=(6, 6)).astype(np.float32))
    net.constant("w2", net.rng.normal(size=(6, 4)).astype(np.float32))
    net.constant("w3", net.rng.normal(size=(4, 6)).astype(np.float32))
    left = net.add("Relu", net.add("MatMul", "image", "w1", name="m1"), name="r1")
    right = net.add("MatMul", left, "w2", name="m2")
    scores = net.add("MatMul", right, left, name="scores")
    net.add("MatMul", net.add("Relu", scores, name="r3"), net.constant(
        "w4", net.rng.normal(size=(6, 5)).astype(np.float32)), name="last")  # fmt: skip
    return net


def test_both_operands_of_an_isolated_product_are_kept_apart_and_nothing_else(
    tmp_path: Path,
) -> None:
    proto = _attention().proto(output_shape=("N", 4, 5))
    plain = export_net(proto, tmp_path)
    found = export_net(proto, tmp_path, change=_isolating("scores"))
    nodes = _nodes(found)
    sums = [name for name, node in nodes.items() if node.op_type == "Sum"]
    assert sorted(sums) == ["apart scores", "apart scores:1"]
    assert [nodes["scores"].input[k] for k in (0, 1)] == [nodes[s].output[0] for s in sorted(sums)]
    np.testing.assert_array_equal(  # a Sum of one operand is that operand
        run(found.path, found.x, optimize=False), run(plain.path, found.x, optimize=False)
    )


def test_nodes_called_like_parts_of_others_are_kept_apart_under_names_of_their_own(
    tmp_path: Path,
) -> None:
    net = Net(("N", 4, 6))
    net.constant("w", net.rng.normal(size=(6, 6)).astype(np.float32))
    left = net.add("Relu", net.add("MatMul", "image", "w", name="m1"), name="r1")
    right = net.add("Transpose", left, name="t", perm=[0, 2, 1])
    first = net.add("MatMul", left, right, name="product")
    second = net.add("MatMul", first, first, name="product:1")
    net.add("MatMul", net.add("Relu", second, name="r2"), net.constant(
        "k", net.rng.normal(size=(4, 5)).astype(np.float32)), name="last")  # fmt: skip
    found = export_net(
        net.proto(output_shape=("N", 4, 5)), tmp_path, change=_isolating("product", "product:1")
    )
    names = sorted(n.name for n in found.proto.graph.node if n.op_type == "Sum")
    assert names == ["apart product", "apart product:1", "apart product:1:1", "apart product:1_2"]
    run(found.path, found.x, optimize=True)  # ONNX Runtime refuses two nodes of one name


def test_a_layer_is_kept_apart_on_its_input_and_weight_but_not_its_bias(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path, change=_isolating("c1"))
    nodes = _nodes(found)
    makers = {o: n for n in found.proto.graph.node for o in n.output}
    kinds = [makers[name].op_type for name in nodes["c1"].input]
    assert kinds == ["Sum", "Sum", "DequantizeLinear"]
    assert "apart stem" not in nodes


def test_an_isolated_node_without_a_quantizer_behind_it_stays_as_it_is(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path, change=_isolating("fc"))
    assert "Sum" not in {n.op_type for n in found.proto.graph.node}


@pytest.mark.parametrize(("tail", "apart"), [
    ((), False), (("Relu",), False), (("Relu", "Softmax"), True), (("Softmax",), False),
    (("Elu", "Softmax"), False),
])  # fmt: skip
def test_a_last_layer_whose_relu_no_quantizer_takes_over_is_kept_from_it(
    tail: tuple[str, ...], apart: bool, tmp_path: Path
) -> None:
    net = chain()
    for index, op in enumerate(tail):
        net.add(op, net.last, name=f"t{index}")
    found = export_net(net.proto(), tmp_path)
    assert [n.name for n in found.proto.graph.node if n.op_type == "Sum"] == (
        ["apart t0"] if apart else []
    )


def test_a_last_layer_that_is_an_output_as_well_is_no_other(tmp_path: Path) -> None:
    net = chain()
    logits = net.last
    net.add("Softmax", net.add("Relu", logits, name="t0"), name="t1")
    proto = net.proto()
    proto.graph.output.append(helper.make_tensor_value_info(logits, TensorProto.FLOAT, ("N", 5)))
    found = export_net(proto, tmp_path)
    assert "Sum" not in {n.op_type for n in found.proto.graph.node}


# ---- HardSwish ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(4, 4)], ids=str)
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("reach", [4.0, 0.1])  # with 0.1, 3 is as many steps as there are codes
def test_a_hard_swish_computes_the_formula_of_every_code(
    bits: BitWidths, isolated: bool, reach: float, tmp_path: Path
) -> None:
    net = Net(("N", 3, 6, 6))
    a = net.add("HardSwish", net.conv("image", "stem", (8, 3, 3, 3)), name="swish")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    source = tmp_path / "net.onnx"
    onnx.save(net.proto(), source)
    model = normalize(load(source))
    found = export_net(net.proto(), tmp_path, bits=bits,
                       change=_isolating("swish") if isolated else lambda plan: plan)  # fmt: skip
    (quantizer,) = [q for q in found.plan.activations if q.unit is not None]
    drawn = (reach * np.random.default_rng(2).normal(size=(9, 9))).astype(np.float32)
    values = {q.tensor: drawn for q in found.plan.activations}
    params = set_untrained_parameters(model, found.plan, values)
    edited = export(model, found.plan, params)
    proto = ir.to_proto(edited)
    node = next(n for n in proto.graph.node if n.name == "swish")
    assert node.op_type == ("HardSwish" if isolated else "Mul")
    here = params.activations[quantizer.name]
    assert 3 / here.scale == pytest.approx(round(3 / here.scale), rel=1e-5)  # one float32 rounding
    reader = next(n for n in proto.graph.node if node.output[0] in n.input)
    assert reader.op_type == "QuantizeLinear"
    real = next(n for n in proto.graph.node if n.name == "Q stem_out").input[0]
    for name in (node.output[0], real):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    proto.opset_import[0].version = 21  # of which the evaluator has every operator
    x = 3 * found.x
    made, before = ReferenceEvaluator(proto).run([node.output[0], real], {"image": x})
    codes = np.clip(np.rint(before / np.float32(here.scale)) + here.zero_point, here.lo, here.hi)
    value = (codes - here.zero_point).astype(np.float64) * here.scale
    wanted = value * np.clip(value + 3, 0, 6) * SIXTH
    # three float32 products against double precision
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)
    assert reach < 3 or (value < -3).any() or bits.activations < 8
    assert reach < 3 or (value > 3).any()


# ---- parameters before training -----------------------------------------------------------------


def _params(
    values: list[float], grid: IntegerRange, folder: Path, **options: float
) -> tuple[float, int, int, int]:
    quantizer = ActivationQuantizer(name="x", tensor="x", grid=grid, **options)  # type: ignore[arg-type]
    plan = QuantizationPlan(activations=(quantizer,), shared=(), weights=(), floats=(), target="")
    found = set_untrained_parameters(_gemm(folder), plan, {"x": np.float32(values)})
    p = found.activations["x"]
    return p.scale, p.zero_point, p.lo, p.hi


def _gemm(folder: Path, weight: np.ndarray | None = None, bias: np.ndarray | None = None
          ) -> NormalizedModel:  # fmt: skip
    weight = np.float32([[1, -2], [0, 0], [-8, 4]]) if weight is None else weight
    bias = np.float32([0.5, -1000, 0]) if bias is None else bias
    body = "y = Gemm<transB=1>(x, w, b)"
    proto = network(body, {"w": weight, "b": bias}, image=f"float[N,{weight.shape[1]}] x")
    return normalize(load(save(proto, folder)))


@pytest.mark.parametrize(("values", "grid", "scale"), [
    ([0.0, 2.55], IntegerRange(8, 0, 255, 0), 0.01),
    ([-1.0, 1.27], IntegerRange(8, 0, 255, 128), 0.01),  # 1.27 / 127 against 1 / 128
    ([-2.56, 1.0], IntegerRange(8, 0, 255, 128), 0.02),
    ([-3.0, 0.0], IntegerRange(4, 0, 15, 0), 1e-6),  # nothing above zero, and no codes below
    ([0.0, 0.0], IntegerRange(8, 0, 255, 128), 1e-6),
    ([5.0, 7.5], IntegerRange(4, 0, 15, 0), 0.5),
    ([-8.0, -4.0], IntegerRange(4, -8, 7, 0), 1.0),
])  # fmt: skip
def test_a_scale_reaches_the_end_of_the_values_that_needs_the_larger_one(
    values: list[float], grid: IntegerRange, scale: float, tmp_path: Path
) -> None:
    assert _params(values, grid, tmp_path) == (
        pytest.approx(scale, rel=1e-6), grid.zero_point, grid.lo, grid.hi
    )  # fmt: skip


def test_the_bound_of_a_clip_is_the_largest_code(tmp_path: Path) -> None:
    grid = IntegerRange(8, 0, 255, 0)
    assert _params([0.0, 25.5], grid, tmp_path, clip_max=6.0)[3] == 60
    assert _params([0.0, 2.55], grid, tmp_path, clip_max=6.0)[3] == 255


def test_the_scale_in_front_of_a_hard_swish_divides_three(tmp_path: Path) -> None:
    grid = IntegerRange(8, 0, 255, 128)
    scale, *_ = _params([-40.0, 10.0], grid, tmp_path, unit=3.0)  # below -3 all is the same
    assert scale == pytest.approx(3 / round(3 / (10 / 127)), rel=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_every_channel_of_a_weight_has_the_scale_of_its_largest_number(
    axis: int, tmp_path: Path
) -> None:
    weight = np.float32([[1, 0, -2], [0, 0, 0], [-8, 0, 4]])  # a row and a column of zeros
    bias = np.float32([0.5, -1000, 0])
    quantizer = WeightQuantizer(
        node="n", op="Gemm", weight="w", bias=None if axis else "b", input="x", axis=axis,
        grid=IntegerRange(4, -8, 7, 0),
    )  # fmt: skip
    plan = QuantizationPlan(
        activations=(ActivationQuantizer(name="x", tensor="x", grid=IntegerRange(8, 0, 255, 0)),),
        shared=(), weights=(quantizer,), floats=(), target="",
    )  # fmt: skip
    model = _gemm(tmp_path, weight)
    found = set_untrained_parameters(model, plan, {"x": np.float32([0, 2.55])}).weights["n"]
    largest = np.abs(weight).max(axis=1 - axis)
    least = np.zeros_like(largest) if axis else np.abs(bias) / (0.01 * 2**24)
    wanted = np.maximum(np.maximum(largest, 1e-6) / 7, least)
    np.testing.assert_allclose(found.scale, wanted, rtol=1e-5)  # float32
    shape = (-1, 1) if axis == 0 else (1, -1)
    np.testing.assert_array_equal(found.codes, np.rint(weight / found.scale.reshape(shape)))
    assert (found.bias is None) is bool(axis)
    if found.bias is not None:
        real = found.bias * (0.01 * found.scale.astype(np.float64))
        assert np.abs(found.bias).max() <= 2**24 + 1
        # half a step, and the last digits of 1000 in float32
        assert (np.abs(real - bias) <= 0.005 * found.scale + 1e-4).all()


# ---- data beside the file -----------------------------------------------------------------------


@pytest.mark.parametrize("rows", [255, 256, 257, 1000])
def test_large_tensors_lie_aligned_beside_the_file_and_small_ones_in_it(
    rows: int, tmp_path: Path
) -> None:
    found = export_net(residual().proto(), tmp_path)
    (tmp_path / "out").mkdir()
    arrays = {"a": np.arange(rows, dtype=np.float32), "b": np.arange(5, dtype=np.float32),
              "c": np.arange(1023, dtype=np.uint8), "d": np.arange(1024).astype(np.uint8),
              "e": np.arange(2000, dtype=np.float32)}  # fmt: skip
    for name, array in arrays.items():
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        found.ir.graph.register_initializer(value)
        node = ir.node("Identity", [value], name=f"keep {name}")
        found.ir.graph.append(node)
    path = tmp_path / "out" / "model.onnx"
    written = write(found.ir, path, limit=100)
    assert written == sum(p.stat().st_size for p in path.parent.iterdir())
    raw = onnx.load(path, load_external_data=False)
    outside = {t.name: {e.key: e.value for e in t.external_data} for t in raw.graph.initializer
               if t.data_location == TensorProto.EXTERNAL}  # fmt: skip
    large = {n for n, a in arrays.items() if a.nbytes >= 1024}
    assert outside.keys() & arrays.keys() == large
    spans = sorted((int(e["offset"]), int(e["length"])) for e in outside.values())
    assert all(offset % 64 == 0 for offset, _ in spans)
    assert all(a + length <= b for (a, length), (b, _) in pairwise(spans))
    loaded = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize(("more", "files"), [(0, 2), (1, 1)])
def test_a_model_of_the_limit_is_split_and_one_below_it_is_whole(
    more: int, files: int, tmp_path: Path
) -> None:
    found = export_net(residual().proto(), tmp_path)
    tensors = [v.const_value for v in found.ir.graph.initializers.values()]
    size = sum(t.nbytes for t in tensors if t is not None)
    (tmp_path / "out").mkdir()
    write(found.ir, tmp_path / "out" / "model.onnx", limit=size + more)
    assert len(list((tmp_path / "out").iterdir())) == files
