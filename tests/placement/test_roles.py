"""The role of every node: what takes it over, what hands codes on, and why the rest is float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.roles import assign_roles, clip_max_of
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import batchnorm, network, only, save
from tests.placement.plans import CONV, HEAD, P, normalized, roles_of


def middle(node: str) -> str:
    """A node h of r (behind a Relu) or a (signed), between two Conv and in front of a head."""
    return f"a = {P}(x, w) r = Relu(a) h = {node} c = {P}(h, t) " + HEAD.format("c")


def role_in_the_middle(
    folder: Path, node: str, *, channels: int = 4, **constants: object
) -> tuple[str, str]:
    weights = CONV | {"t": (4, channels, 3, 3)} | constants
    roles, reasons, _ = roles_of(folder, middle(node), weights)
    return roles["@h"], reasons.get("@h", "")


PADS = np.array([0, 0, 1, 1, 0, 0, 1, 1])
TWICE = np.float32([1, 1, 2, 2])


@pytest.mark.parametrize(("node", "role"), [
    ("Resize(r, , s)", "preserving"),
    ('Resize<mode="nearest">(r, , s)', "preserving"),
    ('Resize<mode="linear">(r, , s)', "float"),
    ('Resize<mode="cubic">(r, , s)', "float"),
    ("Pad(r, pads, zero)", "preserving"),
    ("Pad(r, pads, one)", "float"),
    ('Pad<mode="edge">(r, pads)', "preserving"),
    ('Pad<mode="reflect">(r, pads)', "preserving"),
    ("MaxPool<kernel_shape=[2,2]>(r)", "preserving"),
    ("Transpose<perm=[0,1,3,2]>(r)", "preserving"),
    ("AveragePool<kernel_shape=[2,2]>(r)", "elementwise"),
    ("LeakyRelu(a)", "elementwise"),
    ("Elu(a)", "float"),
])  # fmt: skip
def test_codes_are_handed_on_where_every_number_is_one_of_the_input(
    node: str, role: str, tmp_path: Path
) -> None:
    constants = {"s": TWICE, "pads": PADS, "zero": np.float32(0), "one": np.float32(1)}
    # a Pad in front of a Conv folds into it: read by two, it stays
    body = middle(node) if not node.startswith("Pad(r, pads, zero") else middle(node).replace(
        "c = ", "l = LeakyRelu(h) c = ").replace("(h, t)", "(l, t)")  # fmt: skip
    roles, reasons, _ = roles_of(tmp_path, body, CONV | {"t": (4, 4, 3, 3)} | constants)
    assert roles["@h"] == role
    assert (role == "float") is ("@h" in reasons)


@pytest.mark.parametrize(("low", "high", "bound"), [
    (0.0, 6.0, 6.0), (0.0, 1e-3, 1e-3), (1.0, 6.0, None), (-1.0, 6.0, None), (0.0, 0.0, None),
    (-6.0, 0.0, None), (None, 6.0, None),
])  # fmt: skip
def test_only_a_clip_from_zero_to_a_positive_number_is_a_bound_of_codes(
    low: float | None, high: float, bound: float | None, tmp_path: Path
) -> None:
    constants = {"lo": np.float32(low or 0), "hi": np.float32(high)}
    node = "Clip(a, lo, hi)" if low is not None else "Clip(a, , hi)"
    body = f"a = {P}(x, w) h = {node} c = {P}(h, v) " + HEAD.format("c")
    model = normalized(tmp_path, body, CONV | constants)
    roles = assign_roles(model.ir.graph, ONNXRUNTIME_CPU)
    node_found = only(model, "Clip")
    wanted = None if bound is None else float(np.float32(bound))
    assert clip_max_of(node_found) == wanted
    assert roles.of[node_found] == ("float" if bound is None else "absorbed")
    assert clip_max_of(only(model, "Gemm")) is None


@pytest.mark.parametrize(("before", "role"), [
    ("Conv<pads=[1,1,1,1]>(r, v)", "absorbed"),
    ("Add(r, a)", "absorbed"),
    ("Elu(a)", "absorbed"),  # float: the quantizer behind the Relu begins at zero
    ("Mul(r, a)", "elementwise"),
    ("LeakyRelu(a)", "elementwise"),
    ("Concat<axis=1>(r, a)", "elementwise"),
    ("MaxPool<kernel_shape=[2,2]>(a)", "elementwise"),
])  # fmt: skip
def test_a_relu_is_absorbed_by_what_the_target_fuses_it_with(
    before: str, role: str, tmp_path: Path
) -> None:
    channels = 8 if "Concat" in before else 4
    body = f"a = {P}(x, w) r = Relu(a) b = {before} h = Relu(b) c = {P}(h, t) "
    weights = CONV | {"t": (4, channels, 3, 3)}
    roles, _, _ = roles_of(tmp_path, body + HEAD.format("c"), weights)
    kernel = ONNXRUNTIME_CPU.kernels.get(before.split("<")[0].split("(")[0])
    assert roles["@h"] == role
    assert kernel is None or (role == "absorbed") is kernel.absorbs


def test_a_relu_whose_operand_others_read_is_a_node_of_its_own(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) h = Relu(a) c = {P}(h, v) s = Add(c, a) "
    roles, _, found = roles_of(tmp_path, body + HEAD.format("s"), CONV)
    assert roles["@h"] == "elementwise"
    relu = next(n for n in found.of if n.name == "@h")
    assert found.end(relu.inputs[0]) is relu.inputs[0]


@pytest.mark.parametrize("output", [False, True])
def test_an_operand_that_is_an_output_as_well_ends_there(output: bool, tmp_path: Path) -> None:
    body = f"a = {P}(x, w) h = Relu(a) c = {P}(h, v) " + HEAD.format("c")
    result = "float[N,K] y, float[N,4,8,8] a" if output else "float[N,K] y"
    roles, _, found = roles_of(tmp_path, body, CONV, result=result)
    assert roles["@h"] == ("elementwise" if output else "absorbed")
    conv = next(n for n in found.of if n.name == "@a")
    assert found.end(conv.outputs[0]).name == ("a" if output else "h")


def test_the_tail_is_what_stands_behind_every_layer(tmp_path: Path) -> None:
    body = f"""
        e = Elu(x) a = {P}(e, w) r = Relu(a) m = Elu(r) q = Relu(m) c = {P}(q, v)
        g = GlobalAveragePool(c) f = Flatten(g) l = Gemm<transB=1>(f, k) s = Elu(l) y = Relu(s)
    """
    roles, reasons, found = roles_of(tmp_path, body, CONV)
    assert {str(n.name) for n in found.tail} == {"@s", "@y"}
    assert {str(n.name) for n in found.first} == {"@a"}
    assert {str(n.name) for n in found.last} == {"@l"}
    assert roles["@q"] == "absorbed", "codes behind it are made anyway, and begin at zero"
    assert roles["@y"] == "float", "behind the last layer nothing is quantized"
    assert all("behind the last layer" in reasons[name] for name in ("@s", "@y"))
    assert "Elu" in reasons["@m"]


def test_branches_have_ends_of_their_own(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = {P}(x, w2) s = Add(a, b) c = {P}(s, v) y = Conv(c, u) z = Conv(s, u2)
    """
    weights = CONV | {"w2": (4, 3, 3, 3), "u2": (4, 4, 1, 1)}
    _, _, found = roles_of(tmp_path, body, weights, result="float[N,4,6,6] y, float[N,4,8,8] z")
    assert {str(n.name) for n in found.first} == {"@a", "@b"}
    assert {str(n.name) for n in found.last} == {"@y", "@z"}


def test_a_layer_that_cannot_be_computed_is_neither_first_nor_last(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) b = {P}(a, v) y = {P}(b, u)"
    graph = normalized(tmp_path, body, CONV).ir.graph
    found = assign_roles(graph, ONNXRUNTIME_CPU, {"@a": "first", "@y": "last"})
    of = {str(n.name): role for n, role in found.of.items()}
    assert of == {"@a": "float", "@b": "layer", "@y": "float"}
    assert {str(n.name) for n in (*found.first, *found.last)} == {"@b"}
    assert sorted(found.reasons.values()) == ["first", "last"]


def test_a_left_over_batchnorm_is_no_layer(tmp_path: Path) -> None:
    body = (
        f"a = {P}(x, w) n = BatchNormalization(a, n_g, n_b, n_m, n_v) s = Add(a, n) c = {P}(s, v) "
    )
    roles, _, found = roles_of(tmp_path, body + HEAD.format("c"), CONV | batchnorm("n", 4))
    assert roles["@n"] == "normalization"
    assert "@n" not in {str(n.name) for n in (*found.first, *found.last)}


@pytest.mark.parametrize(("attributes", "named"), [
    ("kernel_shape=[2,2], dilations=[1,2]", "dilations"),
    ("kernel_shape=[2,2], dilations=[2,2]", "dilations"),
    ("kernel_shape=[2,2], dilations=[1,1]", None),
    ("kernel_shape=[2,2], ceil_mode=0", None),
])  # fmt: skip
def test_an_average_with_an_attribute_that_no_integer_kernel_knows_stays_apart(
    attributes: str, named: str | None, tmp_path: Path
) -> None:
    body = middle(f"AveragePool<{attributes}>(r)")
    weights = CONV | {"t": (4, 4, 3, 3)}
    proto_options = {"image": "float[N,3,8,8] x"}
    model = normalized(tmp_path, body, weights, opset=19, **proto_options)  # type: ignore[arg-type]
    found = assign_roles(model.ir.graph, ONNXRUNTIME_CPU)
    node = only(model, "AveragePool")
    assert found.of[node] == ("float" if named else "elementwise")
    assert (named or "") in found.reasons.get(node, "")
    assert (node in found.isolated) is (named is not None)


def test_a_sum_or_product_with_one_constant_is_float_and_told(tmp_path: Path) -> None:
    constant = np.linspace(-1, 1, 256).astype(np.float32).reshape(1, 4, 8, 8)
    for op in ("Add", "Mul"):
        for operands in ("r, q", "q, r"):
            role, reason = role_in_the_middle(tmp_path, f"{op}({operands})", q=constant)
            assert role == "float"
            assert "constant" in reason
    assert role_in_the_middle(tmp_path, "Concat<axis=0>(r, r)")[0] == "elementwise"
    assert role_in_the_middle(tmp_path, "Add(r, a)") == ("elementwise", "")


def test_a_hard_swish_alone_behind_a_quantized_node_is_integer(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) r = Relu(a) h = HardSwish(a) s = Add(r, h) c = {P}(s, v) "
    roles, reasons, _ = roles_of(tmp_path, body + HEAD.format("c"), CONV)
    assert roles["@h"] == "float"
    assert "not the only one" in reasons["@h"]
    roles, _, _ = roles_of(
        tmp_path, f"a = {P}(x, w) h = HardSwish(a) c = {P}(h, v) " + HEAD.format("c"), CONV
    )
    assert roles["@h"] == "elementwise"
    roles, reasons, _ = roles_of(
        tmp_path,
        f"a = {P}(x, w) e = Elu(a) h = HardSwish(e) c = {P}(h, v) " + HEAD.format("c"), CONV,
    )  # fmt: skip
    assert roles["@h"] == "float", "what it reads is made by a float node"
    assert "not the only one" in reasons["@h"]


def test_maxima_with_their_indices_hand_codes_on(tmp_path: Path) -> None:
    body = f"a = {P}(x, w) r = Relu(a) h, i = MaxPool<kernel_shape=[2,2]>(r) c = {P}(h, v) "
    result = "float[N,K] y, int64[N,4,7,7] i"
    roles, _, _ = roles_of(tmp_path, body + HEAD.format("c"), CONV, result=result)
    assert roles["@h"] == "preserving"


def test_what_is_made_of_constants_alone_has_no_codes(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) r = Relu(a) q = Shape(r) n = Slice(q, zero, one) t = Concat<axis=0>(n, rest)
        e = Expand(ones, t) u1 = Transpose<perm=[0,1,3,2]>(e) m = Mul(r, u1) c = {P}(m, v)
    """
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "rest": np.array([4, 1, 1]),
        "ones": np.linspace(0.5, 1, 4).astype(np.float32).reshape(1, 4, 1, 1),
    }  # fmt: skip
    roles, reasons, _ = roles_of(tmp_path, body + HEAD.format("c"), CONV | constants)
    for name in {"@e", "@u1"} & roles.keys():
        assert roles[name] == "float"
        assert "constants" in reasons[name]
    assert {"@q", "@n", "@t"} & roles.keys() <= {n for n, role in roles.items() if role == "shape"}
    assert "@e" in roles


def test_what_is_moved_of_an_input_with_one_given_value_is_no_more_known(tmp_path: Path) -> None:
    body = f"""
        a = {P}(x, w) b = Relu(a) s = Neg(alpha) m = Mul(b, s) c = {P}(m, v)
    """
    proto = network(body + HEAD.format("c"), CONV, image="float[N,3,8,8] x, float[1,4,1,1] alpha")
    for node in proto.graph.node:
        node.name = f"@{node.output[0]}"
    alpha = np.full((1, 4, 1, 1), 0.5, np.float32)
    model = normalize(load(save(proto, tmp_path), given={"alpha": alpha}))
    found = assign_roles(model.ir.graph, ONNXRUNTIME_CPU).reasons
    reasons = {str(node.name): reason for node, reason in found.items()}
    assert {"@s", "@m"} <= reasons.keys()
    assert all("'alpha'" in reasons[name] for name in ("@s", "@m"))


def test_a_square_stays_in_float_and_is_told(tmp_path: Path) -> None:
    role, reason = role_in_the_middle(tmp_path, "Mul(a, a)")
    assert role == "float"
    assert "square" in reason
    assert role_in_the_middle(tmp_path, "Add(a, a)")[0] == "elementwise"
