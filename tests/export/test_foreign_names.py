"""Names that the user's model has already, and constants of equal bytes.

Renaming what is inside a model changes none of its numbers: a file made of the renamed one computes
what that of the original computes, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import Packing
from tests.export.ortrun import run
from tests.export.qnets import export_net, residual

Renaming = Callable[[onnx.ModelProto], dict[str, str]]  # of values and constants
PORTS = {"image", "fc_out"}


def _renamed(proto: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    for node in found.graph.node:
        for names_of_node in (node.input, node.output):
            for index, name in enumerate(names_of_node):
                names_of_node[index] = names.get(name, name)
    for tensor in found.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return found


def _values(proto: onnx.ModelProto) -> list[str]:
    return [o for n in proto.graph.node for o in n.output if o not in PORTS]


def _constants(proto: onnx.ModelProto) -> list[str]:
    return [t.name for t in proto.graph.initializer]


RENAMINGS: dict[str, Renaming] = {
    "values by number": lambda p: {n: f"d{i}" for i, n in enumerate(_values(p))},
    "constants by number": lambda p: {n: f"d{i}" for i, n in enumerate(_constants(p))},
    "both, from behind": lambda p: {
        n: f"d{i}" for i, n in enumerate(reversed([*_constants(p), *_values(p)]))
    },
    "constants like weights of others": lambda p: dict(
        zip(_constants(p), [*_constants(p)[1:], _constants(p)[0]], strict=True)
    ),
    "like a requantizer": lambda p: {"c2_out": "relu0_out@4", "c4_out": "relu2_out@4"},
    "like a shortcut on its way": lambda p: {
        "c1_out": "widen_out/before",
        "c2_out": "stride_out_2",
    },
    "like a bias or a shape": lambda p: {"c1_out": "c1.bias_2", "relu0_out": "fc_out/shape"},
}


@pytest.mark.parametrize("how", RENAMINGS)
def test_names_that_are_taken_change_no_number(how: str, tmp_path: Path) -> None:
    proto = residual().proto()
    other = _renamed(proto, RENAMINGS[how](proto))
    assert other != proto
    files = []
    for name, model in (("plain", proto), ("renamed", other)):
        (tmp_path / name).mkdir()
        files.append(export_net(model, tmp_path / name))
    onnx.checker.check_model(files[1].proto, full_check=True)
    outputs = [run(file.path, files[0].x, optimize=False) for file in files]
    np.testing.assert_array_equal(outputs[1], outputs[0])


def test_nodes_called_like_quantizers_stay_apart_from_them(tmp_path: Path) -> None:
    proto = residual().proto()
    for node, name in zip(proto.graph.node, ("Q image", "Q relu0_out", "apart c1", "d0"),
                          strict=False):  # fmt: skip
        node.name = name
    found = export_net(proto, tmp_path)
    names = [node.name for node in found.proto.graph.node if node.name]
    assert sorted(names) == sorted(set(names))
    plain = export_net(residual().proto(), tmp_path)
    np.testing.assert_array_equal(
        run(found.path, plain.x, optimize=True), run(plain.path, plain.x, optimize=True)
    )


# ---- the editor by itself -----------------------------------------------------------------------


def _graph(*, values: tuple[str, ...] = (), constants: tuple[str, ...] = ()) -> ir.Graph:
    """A chain of Relu with values of those names, and constants beside it."""
    current = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2]))
    image, nodes = current, []
    for name in (*values, "y"):
        nodes.append(ir.node("Relu", [current], name=f"make {name}"))
        current = nodes[-1].outputs[0]
        current.name = name
    held = [
        ir.Value(name=name, const_value=ir.tensor(np.float32(1), name=name)) for name in constants
    ]
    return ir.Graph([image], [current], nodes=nodes, initializers=held, opset_imports={"": 21})


def test_new_names_are_new() -> None:
    graph = _graph(values=("d0", "d2"), constants=("d1", "d4"))
    editor = GraphEditor(graph, ONNXRUNTIME_CPU)
    made = [editor.node("Relu", [graph.inputs[0]]).outputs[0].name for _ in range(3)]
    made += [editor.constant(np.float32(k)).name for k in range(3)]
    taken = {"x", "y", "d0", "d1", "d2", "d4"}
    assert len(set(made)) == len(made)
    assert not taken & set(made)
    assert {name for name in graph.initializers if name not in made} == {"d1", "d4"}


def test_a_wish_is_fulfilled_and_the_users_constant_steps_aside() -> None:
    graph = _graph(constants=("w",))
    editor = GraphEditor(graph, ONNXRUNTIME_CPU)
    old = graph.initializers["w"]
    new = editor.constant(np.int8([1, 2]), name="w")
    assert (new.name, graph.initializers["w"]) == ("w", new)
    assert old.name != "w"
    assert graph.initializers[str(old.name)] is old
    second = editor.constant(np.int8([3]), name="w")  # two weights that shared a constant
    assert second.name != "w"
    assert graph.initializers["w"] is new


CONSTANTS = [
    np.int8(5), np.uint8(5), np.int8([5]), np.int8([[5]]), np.int8(6), np.zeros(2, np.int32),
    np.zeros(2, np.float32), np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32),
    np.zeros(1, np.int64),
]  # fmt: skip


def test_constants_are_stored_once_for_equal_type_shape_and_bytes() -> None:
    editor = GraphEditor(_graph(), ONNXRUNTIME_CPU)
    values = [editor.constant(array) for array in CONSTANTS]
    assert len({id(value) for value in values}) == len(CONSTANTS)
    for array, value in zip(CONSTANTS, values, strict=True):
        assert editor.constant(np.array(array)) is value
        assert value.const_value is not None
        stored = value.const_value.numpy()
        assert (stored.dtype, stored.shape) == (np.asarray(array).dtype, np.shape(array))
        np.testing.assert_array_equal(stored, array)


@pytest.mark.parametrize(("kind", "low", "high"), [(np.int8, -8, 7), (np.uint8, 0, 15)])
def test_packed_codes_are_the_same_numbers(kind: type, low: int, high: int) -> None:
    editor = GraphEditor(_graph(), ONNXRUNTIME_CPU)
    codes = np.arange(low, high + 1, dtype=kind)
    value, (cast,) = editor.codes(codes, packing=Packing(4, 21))
    packed = cast.inputs[0]
    assert packed is not None
    assert packed.const_value is not None
    assert packed.const_value.nbytes == 8, "two a byte"
    np.testing.assert_array_equal(packed.const_value.numpy().astype(np.int32), codes)
    container = ir.DataType(cast.attributes.get_int("to", 0))
    assert container == (ir.DataType.INT8 if kind is np.int8 else ir.DataType.UINT8)
    assert value is cast.outputs[0]


def test_only_the_readers_that_are_named_read_the_new_value() -> None:
    graph = _graph(values=("a",))
    extra = ir.node("Abs", [graph.node("make a").outputs[0]], name="extra")
    extra.outputs[0].name = "z"
    graph.append(extra)
    graph.outputs.append(graph.node("make a").outputs[0])
    graph.outputs.append(extra.outputs[0])
    editor = GraphEditor(graph, ONNXRUNTIME_CPU)
    old = editor.values["a"]
    made = editor.node("Neg", [old], name="new")
    editor.after(old, [made])
    editor.redirect(old, made.outputs[0], only=frozenset({"extra"}))
    assert extra.inputs[0] is made.outputs[0]
    assert graph.node("make y").inputs[0] is old
    assert [o.name for o in graph.outputs] == ["y", "a", "z"]
    assert graph.outputs[1] is old


def test_an_output_follows_its_quantizer_under_its_own_name_wherever_it_stands() -> None:
    for place in count():
        graph = _graph(values=("a", "b"))
        value = graph.node("make b").outputs[0]
        outputs = [graph.node("make a").outputs[0], graph.node("make y").outputs[0]]
        if place > len(outputs):
            break
        outputs.insert(place, value)
        graph.outputs[:] = outputs
        names = [o.name for o in outputs]
        editor = GraphEditor(graph, ONNXRUNTIME_CPU)
        made = [editor.node("Neg", [value]), None]
        made[1] = editor.node("Abs", [made[0].outputs[0]])
        editor.after(value, made)
        editor.redirect(value, made[1].outputs[0])
        assert [o.name for o in graph.outputs] == names
        assert graph.outputs[place] is made[1].outputs[0]
        assert made[0].inputs[0] is value, "the way to it reads the old value"
        assert value.name not in names
