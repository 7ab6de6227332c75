"""Whether every node of a graph is surely one that can be trained through, told without PyTorch.

`trainable_operators.json` is what the registry of `convert` says of its operators, version by
version: how many inputs they take, which attributes and values. Where all nodes fit it, no constant
has to be computed and no batch is fixed, translating the graph would succeed; in any doubt the
answer is no, and who asks translates it. `python -m tests.convert.trainable_operators` writes the
table, and a test compares it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx.defs
import onnx_ir as ir

from dfqonnx.graph.model import NormalizedModel

TABLE = Path(__file__).with_name("trainable_operators.json")
_READABLE = {
    ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL, ir.DataType.DOUBLE,
}  # fmt: skip
_SIMPLE = {
    ir.AttributeType.INT, ir.AttributeType.INTS, ir.AttributeType.FLOAT, ir.AttributeType.FLOATS,
    ir.AttributeType.STRING, ir.AttributeType.STRINGS,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OperatorForm:
    """What one version of an operator takes, as `convert/op_registry.py` describes it."""

    least: int
    most: int | None
    attributes: frozenset[str]
    required: frozenset[str]
    choices: Mapping[str, list[Any]]


@cache
def read_forms() -> Mapping[str, OperatorForm]:
    """Return the table, by names such as `Conv-11`."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        name: OperatorForm(
            least=entry["least"],
            most=entry["most"],
            attributes=frozenset(entry["attributes"]),
            required=frozenset(entry["required"]),
            choices=entry["choices"],
        )
        for name, entry in content.items()
    }


def is_surely_translatable(model: NormalizedModel) -> bool:
    """Return whether translating the model would succeed without leaving any node out."""
    graph = model.ir.graph
    if model.unsupported or model.contract.batch is not None:
        return False
    constants = set(graph.initializers.values())
    if any(value.dtype not in _READABLE for value in constants):
        return False
    opset = graph.opset_imports.get("")
    return opset is not None and all(_fits(node, opset, constants) for node in graph)


def _fits(node: ir.Node, opset: int, constants: set[ir.Value]) -> bool:
    """Return whether a node is of a known form, with one output and something to compute from."""
    if node.domain not in {"", "ai.onnx"} or not onnx.defs.has(node.op_type):
        return False
    since = onnx.defs.get_schema(node.op_type, opset).since_version
    form = read_forms().get(f"{node.op_type}-{since}")
    inputs = list(node.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    if form is None or len(node.outputs) != 1 or set(inputs) <= constants:
        return False
    if None in inputs[: form.least] or not form.least <= len(inputs) <= (form.most or len(inputs)):
        return False
    given = node.attributes
    if not form.required <= set(given) <= form.attributes:
        return False
    if any(attribute.type not in _SIMPLE for attribute in given.values()):
        return False
    return all(given[n].value in allowed for n, allowed in form.choices.items() if n in given)
