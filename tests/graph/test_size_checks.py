"""Graphs that grow without end, or are longer than anything: refused at once, or read in time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.load import load
from dfqonnx.graph.size_checks import MAX_NODES, check_graph_size
from tests.cli.conftest import Run, dfqonnx  # noqa: F401

VALUE = helper.make_tensor_value_info
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def close(nodes: list[onnx.NodeProto], last: str, functions: tuple = ()) -> onnx.ModelProto:
    """A model of a Conv from x to c, the nodes from c to `last`, and a pooling to y."""
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    ends = [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="first"), *nodes, *ends],
        "g",
        [VALUE("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [VALUE("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=9)
    model.functions.extend(functions)
    return model


def chain(op: str, count: int, **attributes: object) -> onnx.ModelProto:
    names = ["c", *(f"v{k}" for k in range(count))]
    nodes = [
        helper.make_node(op, [names[k]], [names[k + 1]], name=f"n{k}", **attributes)
        for k in range(count)
    ]
    return close(nodes, names[-1])


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """A function that calls others one after the other."""
    values = ["a", *(f"b{k}" for k in range(len(calls) - 1)), "z"]
    nodes = [
        helper.make_node(op, [one], [other], domain="" if op == "Relu" else "own")
        for op, one, other in zip(calls, values, values[1:], strict=False)
    ]
    return helper.make_function("own", name, ["a"], ["z"], nodes, OPSETS)


def calling(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    call = helper.make_node(functions[-1].name, ["c"], ["called"], domain="own", name="call")
    return close([call], "called", functions)


BOMB = [
    function("f0", "Relu", "Relu"),
    *(function(f"f{k}", *[f"f{k - 1}"] * 2) for k in range(1, 40)),
]
TOO_LARGE = {
    "functions that double forty times": (calling(*BOMB), "1.1e\\+12 nodes"),
    "a function that calls itself": (calling(function("f", "f")), "calls itself"),
    "two that call each other": (calling(function("f", "g"), function("g", "f")), "calls itself"),
    "functions nested too deep": (
        calling(function("f0", "Relu"), *(function(f"f{k}", f"f{k - 1}") for k in range(1, 300))),
        "nest over 200 deep",
    ),
    "a long chain": (chain("Relu", MAX_NODES), "30,003 nodes"),
    "a node of a million inputs": (
        close([helper.make_node("Sum", ["c"] * 10**6, ["s"], name="s")], "s"),
        "1,000,008 inputs and outputs",
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_grows_beyond_all_bounds_is_refused_at_once(
    dfqonnx: Run,  # noqa: F811
    name: str,
) -> None:
    model, words = TOO_LARGE[name]
    onnx.save(model, "bomb.onnx")
    began = time.process_time()
    done = dfqonnx("inspect", "--model", "bomb.onnx")
    assert time.process_time() - began < 10
    assert (done.code, done.err.count("Error:")) == (3, 1), done.err
    with pytest.raises(UnsupportedModel, match=words):
        load(Path("bomb.onnx"))


def test_functions_are_counted_as_often_as_they_are_called() -> None:
    functions = [function("f0", "Relu", "Relu"), function("f1", "f0", "Relu", "f0")]
    model = calling(*functions)  # 5 nodes by two calls of f0, 3 others
    assert check_graph_size(model) == ()
    inlined = onnx.inliner.inline_local_functions(model)
    assert len(inlined.graph.node) == 5 + 3


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [1, 1]}),
        ("Relu", {}),
        ("Sin", {}),
        ("Transpose", {"perm": [0, 1, 3, 2]}),
    ],
)
def test_a_long_chain_is_inspected_without_recursion(
    dfqonnx: Run,  # noqa: F811
    op: str,
    attributes: dict[str, object],
) -> None:
    onnx.save(chain(op, 1500, **attributes), "chain.onnx")
    done = dfqonnx("inspect", "--model", "chain.onnx")
    assert done.code == 0, done.err


EMPTY = {
    "no classes": ("Gemm", (3, 0), (0,)),
    "no channels": ("Gemm", (0, 4), (4,)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_layer_with_nothing_in_it_is_refused_by_name(
    dfqonnx: Run,  # noqa: F811
    name: str,
) -> None:
    op, weight, bias = EMPTY[name]
    model = close([], "c")
    model.graph.node.append(helper.make_node(op, ["y", "v", "b"], ["logits"], name="head"))
    for key, shape in (("v", weight), ("b", bias)):
        array = np.zeros(shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    model.graph.output[0].CopyFrom(VALUE("logits", TensorProto.FLOAT, ["N", weight[1]]))
    onnx.save(model, "empty.onnx")
    for command in ("inspect", "run"):
        done = dfqonnx(command, "--model", "empty.onnx")
        assert done.code == 3, done.err
        assert "head" in done.err
