"""Every promise of the table of operators, checked against ONNX's definitions and its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import defs, helper
from onnx.reference import ReferenceEvaluator

from dfqonnx.graph.op_traits import OP_TRAITS, Trait, has_trait, ops_with

OPSET = 21
SHAPE = (2, 4, 6, 6)  # N C H W
Array = NDArray[Any]


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


MORE_INPUTS: dict[str, tuple[Array, ...]] = {
    "Clip": (np.float32(-0.5), np.float32(0.7)),
    "Expand": (ints(3, *SHAPE),),
    "Gather": (ints(2, 0),),
    "PRelu": (np.float32([0.1, 0.2, 0.3, -0.4]).reshape(4, 1, 1),),
    "MaxUnpool": (np.arange(2 * 4 * 6 * 6).reshape(SHAPE) * 4,),
    "Pad": (ints(0, 0, 1, 1, 0, 0, 1, 1),),
    "ReduceMax": (ints(2, 3),),
    "ReduceMean": (ints(2, 3),),
    "Reshape": (ints(2, 9, 16),),
    "Slice": (ints(1), ints(5), ints(2), ints(2)),
    "Squeeze": (ints(0),),
    "Tile": (ints(1, 2, 1, 1),),
    "Unsqueeze": (ints(1),),
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "Cast": {"to": int(onnx.TensorProto.INT32)},
    "Concat": {"axis": 1},
    "DepthToSpace": {"blocksize": 2},
    "Gather": {"axis": 1},
    "MaxPool": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "MaxUnpool": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "SpaceToDepth": {"blocksize": 2},
    "Split": {"axis": 1, "num_outputs": 2},
    "Transpose": {"perm": [0, 2, 3, 1]},
}
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}
TWO = ("Add", "Concat", "Div", "Max", "Min", "Mul", "Sub", "Sum")  # operands in these tests


def image(*, seed: int = 0, low: float = -2.0) -> Array:
    return np.random.default_rng(seed).uniform(low, 2, SHAPE).astype(np.float32)


def run(op: str, *inputs: Array, **attributes: Any) -> list[Array]:
    names = [f"in{n}" for n in range(len(inputs))]
    made = [f"out{n}" for n in range(attributes.get("num_outputs", 1))]
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, **attributes)],
        op,
        given,
        [helper.make_empty_tensor_value_info(name) for name in made],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    found = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    return [np.asarray(y) for y in found]


def compute(op: str, x: Array) -> Array:
    """Return the first output of the operator in its example form."""
    if op == "Squeeze":
        x = x[None]
    more = (image(seed=1, low=0.1),) if op in TWO else MORE_INPUTS.get(op, ())
    return run(op, x, *more, **ATTRIBUTES.get(op, {}))[0]


def channels_of(y: Array) -> Array:
    """Return (N, C, rest): Flatten and Unsqueeze lay channels out as blocks."""
    return y.reshape(SHAPE[0], SHAPE[1], -1)


def per_channel(seed: int) -> Array:
    factors = np.random.default_rng(seed).uniform(0.2, 3, (1, SHAPE[1], 1, 1))
    return factors.astype(np.float32)


def each(trait: Trait) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("op", sorted(ops_with(trait)))


def schemas(op: str) -> defs.OpSchema:
    return defs.get_schema(op, OPSET)


@pytest.mark.parametrize("op", sorted(OP_TRAITS))
def test_rows_are_onnx_operators(op: str) -> None:
    assert schemas(op).name == op
    assert OP_TRAITS[op]


def test_rows_stand_in_alphabetical_order() -> None:
    assert list(OP_TRAITS) == sorted(OP_TRAITS)


def test_every_trait_has_operators() -> None:
    assert [trait.name for trait in Trait if not ops_with(trait)] == []


def test_questions_about_several_traits_mean_any_one() -> None:
    assert has_trait("TopK", Trait.DECISION | Trait.RANDOM)
    assert ops_with(Trait.DECISION | Trait.RANDOM) > ops_with(Trait.DECISION)
    assert not has_trait("Conv", Trait.RANDOM)
    assert not has_trait("NoSuchOperator", Trait.LAYER)


@each(Trait.HOMOGENEOUS)
def test_homogeneous_operators_pass_channel_factors_on(op: str) -> None:
    x, a = image(), per_channel(2)
    expected = compute(op, x) * a
    np.testing.assert_allclose(compute(op, x * a), expected, rtol=1e-5, atol=1e-6)


@each(Trait.SHIFT_EQUIVARIANT)
def test_shift_equivariant_operators_pass_channel_constants_on(op: str) -> None:
    x, c = image(low=0.0), per_channel(3)
    expected = channels_of(compute(op, x)) + c.reshape(1, -1, 1)
    np.testing.assert_allclose(channels_of(compute(op, x + c)), expected, rtol=1e-5)


@each(Trait.MEAN_PRESERVING)
def test_mean_preserving_operators_keep_the_mean_of_each_channel(op: str) -> None:
    x = image()
    means = [channels_of(values).mean((0, 2)) for values in (x, compute(op, x))]
    np.testing.assert_allclose(*means, rtol=1e-4, atol=1e-6)


@each(Trait.ELEMENTWISE)
def test_elementwise_operators_change_one_place_for_one_place(op: str) -> None:
    x = image(low=0.1)
    other = x.copy()
    other[1, 2, 3, 4] += 0.3
    before, after = compute(op, x), compute(op, other)
    assert before.shape == x.shape
    assert {tuple(place) for place in np.argwhere(before != after)} <= {(1, 2, 3, 4)}


@each(Trait.NON_NEGATIVE)
def test_non_negative_operators(op: str) -> None:
    x = image(low=0.0) if op == "Sqrt" else image(low=-9)
    assert compute(op, x).min() >= 0


@each(Trait.NON_NEGATIVE_IF_FIRST | Trait.NON_NEGATIVE_IF_ALL)
def test_operators_that_keep_non_negative_numbers_non_negative(op: str) -> None:
    assert compute(op, image(low=0.0)).min() >= 0


@each(Trait.VALUE_PRESERVING)
def test_value_preserving_operators_make_no_new_number(op: str) -> None:
    x = image()
    assert np.isin(compute(op, x), x).all()


@each(Trait.MOVES)
def test_moving_operators_choose_by_place(op: str) -> None:
    places = np.arange(1, 1 + np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    x = image()
    values = np.concatenate([[0], x.ravel(), image(seed=1, low=0.1).ravel()])
    taken = compute(op, places)
    if op in TWO:  # the second operand stands behind the first one
        second = np.arange(places.size + 1, 2 * places.size + 1, dtype=np.float32).reshape(SHAPE)
        taken = run(op, places, second, **ATTRIBUTES[op])[0]
    np.testing.assert_array_equal(compute(op, x), values[taken.astype(int)])


@each(Trait.ROW_MAJOR)
def test_row_major_operators_keep_the_order(op: str) -> None:
    x = image()
    np.testing.assert_array_equal(compute(op, x).ravel(), x.ravel())


@each(Trait.REARRANGES_AXES)
def test_rearranging_operators_keep_every_number_once(op: str) -> None:
    x = image()
    np.testing.assert_array_equal(np.sort(compute(op, x).ravel()), np.sort(x.ravel()))


@each(Trait.AFFINE)
def test_affine_operators(op: str) -> None:
    x, y, constant = image(), image(seed=4), image(seed=1, low=0.1)
    middle = run(op, (x + y) / 2, constant)[0]
    expected = (run(op, x, constant)[0] + run(op, y, constant)[0]) / 2
    np.testing.assert_allclose(middle, expected, rtol=1e-4, atol=1e-5)


@each(Trait.COMMUTATIVE)
def test_commutative_operators(op: str) -> None:
    x, y = image(), image(seed=4)
    np.testing.assert_array_equal(run(op, x, y)[0], run(op, y, x)[0])


@each(Trait.EXTREMUM)
def test_extrema_choose_between_their_operands(op: str) -> None:
    x, y = image(), image(seed=4)
    found = run(op, x, y)[0]
    assert ((found == x) | (found == y)).all()


@each(Trait.CLAMP)
def test_clamps_keep_what_lies_inside(op: str) -> None:
    x = image(low=0.0) * np.float32(0.3)  # within every range of these tests
    np.testing.assert_array_equal(compute(op, x), x)
    assert len(np.unique(compute(op, image(low=-9)))) < x.size


@each(Trait.UPPER_BOUND)
def test_upper_bounds(op: str) -> None:
    bound = np.full(SHAPE, 0.4, np.float32)
    more = (bound,) if op == "Min" else (np.float32(-9), np.float32(0.4))
    assert run(op, image(), *more)[0].max() == np.float32(0.4)


@each(Trait.NORMALIZES)
def test_normalizing_operators_forget_the_scale_of_what_they_read(op: str) -> None:
    channels, rest = (SHAPE[-1:], {}) if op == "LayerNormalization" else (SHAPE[1:2], {})
    rest = {"num_groups": 2} if op == "GroupNormalization" else rest
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    x = image()
    found = [run(op, values, ones, zeros, **rest)[0] for values in (x, 100 * x)]
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3)


@each(Trait.SOFTMAX)
def test_softmax_operators_forget_a_constant(op: str) -> None:
    x = image()
    np.testing.assert_allclose(compute(op, x + 1), compute(op, x), rtol=1e-4, atol=1e-5)


@each(Trait.WINDOWED)
def test_windowed_operators_have_the_attributes_of_windows(op: str) -> None:
    assert {"kernel_shape", "strides", "pads", "auto_pad"} <= set(schemas(op).attributes)


@each(Trait.ZERO_PADDED)
def test_pads_are_zeros(op: str) -> None:
    x = image()
    more = (np.ones((3, 4, 3, 3), np.float32),) if op == "Conv" else ()
    counted = {"count_include_pad": 1} if op == "AveragePool" else {}
    inside = run(op, x, *more, **WINDOW, **counted, pads=[1, 1, 1, 1])[0]
    outside = run("Pad", x, ints(0, 0, 1, 1, 0, 0, 1, 1))[0]
    np.testing.assert_allclose(inside, run(op, outside, *more, **WINDOW)[0], rtol=1e-5)


@each(Trait.POOLING)
def test_pooling_works_on_each_channel_by_itself(op: str) -> None:
    x = image()
    other = x.copy()
    other[:, 2] += 1
    before, after = compute(op, x), compute(op, other)
    assert {int(place[1]) for place in np.argwhere(before != after)} == {2}
    assert before[0, 0].size < x[0, 0].size


@each(Trait.WEIGHTED)
def test_weighted_operators_are_linear_in_input_and_weight(op: str) -> None:
    weights = {"Conv": (3, 4, 3, 3), "ConvTranspose": (4, 3, 3, 3)}
    shape = weights.get(op, (6, 5))
    x = image()[0, 0] if op == "Gemm" else image()
    w = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    doubled = [run(op, 2 * x, w)[0], run(op, x, 2 * w)[0]]
    np.testing.assert_allclose(doubled[0], doubled[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(doubled[0], 2 * run(op, x, w)[0], rtol=1e-3, atol=1e-5)


def test_layers_are_the_weighted_operators_that_are_quantized() -> None:
    assert ops_with(Trait.LAYER) == ops_with(Trait.WEIGHTED) - {"ConvTranspose"}


@each(Trait.CONTROL_FLOW)
def test_control_flow_runs_graphs(op: str) -> None:
    kinds = {attribute.type for attribute in schemas(op).attributes.values()}
    assert defs.OpSchema.AttrType.GRAPH in kinds


@each(Trait.RANDOM)
def test_random_operators_have_a_seed(op: str) -> None:
    assert "seed" in schemas(op).attributes


def test_operators_with_a_seed_are_random() -> None:
    seeded = {s.name for s in defs.get_all_schemas() if "seed" in s.attributes and not s.domain}
    assert ops_with(Trait.RANDOM) == seeded - {"Dropout"}  # which does nothing at inference


@each(Trait.QUANTIZED)
def test_quantized_operators_read_or_make_8_bit_codes(op: str) -> None:
    values = [*schemas(op).inputs, *schemas(op).outputs]
    assert any("tensor(uint8)" in value.types and "tensor(string)" not in value.types
               for value in values)  # fmt: skip


@each(Trait.SAME_SINCE_13)
def test_operators_that_go_down_to_opset_13_have_all_it_knew(op: str) -> None:
    old, new = defs.get_schema(op, 13), schemas(op)
    assert set(old.attributes) <= set(new.attributes)
    added = [a for name, a in new.attributes.items() if name not in old.attributes]
    assert not any(attribute.required for attribute in added)
    assert len(old.inputs) <= len(new.inputs)
