"""Channels whose scale is free: what the network computes stays, and who has no freedom."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper, parser

from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import INT8
from dfqonnx.core.quantization_plan import QuantizationPlan, WeightQuantizer
from dfqonnx.equalization.scale_groups import ScaleGroups, find_scale_groups

C = 4
FIRST = "c = Conv<pads=[1,1,1,1]>(x, w, b)"
LAST = "y = Conv(z, v)"


def program(body: str, *, reads: int = C, first: str = FIRST, last: str = LAST) -> Program:
    """A network c = first(x), z = body(c), y = last(z), z with `reads` channels."""
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[N,3,6,6] x) => (float[N,2,P,Q] y) {{ {first} {body} {last} }}"""
    rng = np.random.default_rng(0)
    shapes = {
        "w": (C, 3, 3, 3), "b": (C,), "u": (C, C, 1, 1), "a": (C,), "v": (2, reads, 1, 1),
        "g": (2, reads), "m": (6, 2), "slope": (C, 1, 1), "bias": (1, C, 1, 1),
    }  # fmt: skip
    numbers = {
        "behind": [0, 1, 0, 0, 0, 2, 0, 0], "before": [1, 0, 0, 0, 0, 0, 0, 0],
        "grown": np.float32([1, 1, 2, 1.5]), "wider": np.float32([1, 2, 1, 1]),
        "half": np.float32(0.5), "line": np.arange(1, 7, dtype=np.float32),
        "zero": [0], "two": [2], "one": [1], "end": [2**62], "rest": [C],
        "rows": [-1, C], "wide": [-1, 36 * C],
    }  # fmt: skip
    model = parser.parse_model(text)
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    for name, shape in shapes.items():
        if name in words:
            array = rng.standard_normal(shape).astype("f4")
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, values in numbers.items():
        if name in words:
            model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    return program_from_ir(ir.serde.deserialize_model(model))


def plan_of(weights: tuple[WeightQuantizer, ...]) -> QuantizationPlan:
    return QuantizationPlan(activations=(), shared=(), weights=weights, floats=(), target="")


def sites(net: Program) -> QuantizationPlan:
    grid = INT8.grid(4)
    found = [
        WeightQuantizer(
            node=step.node,
            op=step.op,
            weight=str(step.inputs[1]),
            bias=str(step.inputs[2]) if len(step.inputs) > 2 else None,
            grid=grid,
            axis=0 if step.op != "MatMul" else 1,
            input="",
        )
        for step in net.steps
        if step.op in {"Conv", "Gemm", "MatMul"}
    ]
    return plan_of(tuple(found))


def groups_of(net: Program) -> ScaleGroups:
    return find_scale_groups(net, sites(net))


def check(net: Program, groups: ScaleGroups) -> None:
    """Whatever the factors, the outputs stay: float32 sums of at most 108 terms."""
    torch.manual_seed(0)
    x = torch.randn(3, 3, 6, 6)
    factors = torch.empty(groups.count).uniform_(-2, 2).exp()
    with torch.no_grad():
        before, after = ProgramModule(net)(x)[0], ProgramModule(groups.scale(net, factors))(x)[0]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


FREE = {
    "relu": ("z = Relu(c)", C, C),
    "pooling": ("r = LeakyRelu(c) p = MaxPool<kernel_shape=[2,2]>(r) z = PRelu(p, slope)", C, C),
    "residual": ("r = Relu(c) d = Conv(r, u, a) s = Add(d, r) z = Relu(s)", C, C),
    "two streams": ("r = Relu(c) d = Conv(r, u) z = Relu(d)", C, 2 * C),
    "zeros around": ("z = Pad(c, behind)", C + 3, C + 3),
    "beside itself": ("r = Relu(c) z = Concat<axis=1>(r, c)", 2 * C, C),
    "half the positions": ("z = Slice(c, zero, end, two, two)", C, C),
    "a number": ("r = Mul(c, half) z = Div(r, half)", C, C),
    "numbers by channel": ("r = Mul(slope, c) s = Relu(r) z = Div(s, bias)", C, C),
    "a pooled product": (
        "p = GlobalAveragePool(c) r = Mul(p, bias) d = Conv(r, u) z = Relu(d)",
        C,
        2 * C,
    ),
    "nearest": ("z = Resize(c, , grown)", C, C),
    "linear": ('r = Relu(c) z = Resize<mode = "linear">(r, , grown)', C, C),
}


@pytest.mark.parametrize(("body", "reads", "count"), FREE.values(), ids=FREE)
def test_free_channels_are_counted_and_change_nothing(body: str, reads: int, count: int) -> None:
    net = program(body, reads=reads)
    groups = groups_of(net)
    assert groups.count == count
    assert (groups.group["c"] >= 0).all()
    assert (groups.group["y"] == -1).all()
    check(net, groups)


def test_what_is_added_has_one_factor_and_what_stands_beside_has_its_own() -> None:
    net = program(
        "r = Relu(c) d = Conv(r, u, a) s = Add(d, r) z = Concat<axis=1>(s, d)", reads=2 * C
    )
    factor = groups_of(net).group
    assert factor["c"].tolist() == factor["d"].tolist() == factor["s"].tolist()
    assert factor["z"].tolist() == 2 * factor["c"].tolist()
    padded = groups_of(program("z = Pad(c, behind)", reads=C + 3)).group
    assert padded["z"][1 : 1 + C].tolist() == padded["c"].tolist()
    assert not set(padded["z"][[0, -2, -1]]) & set(padded["c"])


FIXED = {
    "a sigmoid": "z = Sigmoid(c)",
    "a bias of its own": "z = Add(c, bias)",
    "a reader beside": "p = Relu(c) q = Tanh(c) z = Add(p, q)",
    "maps beside each other": "p = Relu(c) z = Concat<axis=2>(p, p)",
    "channels taken apart": "p = Slice(c, zero, end, one, one) z = Relu(p)",
    "images padded": "z = Pad(c, before)",
    "numbers by column": "z = Mul(c, line)",
    "a number divided by channels": "z = Div(slope, c)",
    "two computed factors": "p = Relu(c) z = Mul(p, c)",
    "channels grown": "k = Resize(c, , wider) z = Slice(k, zero, rest, one)",
    "reflection": 'z = Pad<mode = "reflect">(c, behind)',
    "axes exchanged": "t = Transpose<perm=[0,2,3,1]>(c) z = Transpose<perm=[0,3,1,2]>(t)",
}


@pytest.mark.parametrize("body", FIXED.values(), ids=FIXED)
def test_what_another_operator_touches_is_not_free(body: str) -> None:
    net = program(body)
    groups = groups_of(net)
    assert (groups.group["c"] == -1).all()
    assert groups.count == 0


def test_columns_behind_flatten_belong_to_channels() -> None:
    last = "y = Gemm<transB=1>(z, g)"
    pooled = "p = GlobalAveragePool(c) z = Flatten(p)"
    for body, reads in ((pooled, C), ("z = Flatten(c)", 36 * C)):
        net = program(body, reads=reads, last=last)
        groups = groups_of(net)
        assert groups.count == C
        check(net, groups)
        maps = torch.randn(2, C, reads // C)
        assert torch.equal(groups.by_channel("z", maps.flatten(1)), maps)
        assert torch.equal(groups.by_channel("c", maps), maps[:, :, None])
    assert groups_of(program("p = GlobalAveragePool(c) z = Reshape(p, rows)", last=last)).count == C
    # rows of C numbers out of 36 C are no channels
    assert groups_of(program("z = Reshape(c, rows)", last=last)).count == 0


def test_a_matrix_product_over_positions_does_not_read_channels() -> None:
    first = "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c)"
    net = program("", first=first, last="y = MatMul(r, m)")  # 6 columns of an image
    assert groups_of(net).count == 0
    check(net, groups_of(net))


def test_nodes_left_float_and_the_networks_own_outputs_keep_their_channels() -> None:
    net = program("z = Relu(c)")
    known = sites(net)
    last_only = plan_of(known.weights[1:])
    assert find_scale_groups(net, last_only).count == 0
    shown = program("z = Relu(c)", last="q = Conv(z, v) y = Identity(z)")
    assert groups_of(shown).count == 0
