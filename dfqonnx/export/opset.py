"""The oldest opset of the target that holds the exported graph, so that many versions load it.

A graph goes down to an older version only if every operator of it means the same there as at the
opset at which models are normalized (`Trait.SAME_SINCE_13`, or no newer version of it) and fits the
older schema.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx.defs
import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant_input
from dfqonnx.graph.passes.opset_upgrade import OPSET
from dfqonnx.targets.profile import OpsetVersion, TargetProfile

WIDE_CODES = 21  # the first with QuantizeLinear to 16 bits
OLDEST = 13  # of any target: what is older is in the table of operators


def choose_opset(model: ir.Model, target: TargetProfile, *, least: int = 0) -> OpsetVersion:
    """Return the version that `model` is written at, of opset `least` or later.

    Raises:
        UnsupportedModel: the target knows no version that holds every operator.
    """
    least = max(least, _least_for_codes(model.graph))
    own, last = model.opset_imports.get("", OPSET), target.opsets[-1]
    if own > OPSET:
        if target.newer_opsets:
            newer = [each for each in target.opsets if each.opset >= max(least, OPSET)]
            floor = newer[0] if newer else last
            return OpsetVersion(max(own, least), max(floor.ir_version, model.ir_version))
        raise UnsupportedModel(
            f"this model of opset {own} is too new for {target.name}:",
            [Offense("graph", "", f"the target takes opset {last.opset}", "export it at opset 21")],
        )
    for version in target.opsets:
        holds = version.opset >= OPSET or not any(_unfit(model.graph, version))
        if holds and version.opset >= least:
            return version
    raise UnsupportedModel(
        f"some operators of this model do not exist in a form that {target.name} takes:",
        [
            Offense(
                node.name or "",
                node.op_type,
                f"it cannot be written at opset {last.opset}",
                "choose another --target",
            )
            for node in _unfit(model.graph, last)
        ],
    )


def check_operators(model: ir.Model, target: TargetProfile) -> None:
    """Raise UnsupportedModel, before anything slow, where none of the target's opsets holds it."""
    choose_opset(model, target)


def _unfit(nodes: Iterable[ir.Node], version: OpsetVersion) -> Iterable[ir.Node]:
    """Yield the nodes that cannot be written at `version`."""
    return (node for node in nodes if not _fits(node, version.opset))


def _least_for_codes(graph: ir.Graph) -> int:
    """Return the opset that has the types of all codes: 21 for those of 16 bits, else 0."""
    for node in graph:
        zero = get_constant_input(node, 2) if node.op_type == "QuantizeLinear" else None
        if zero is not None and zero.dtype in (np.int16, np.uint16):
            return WIDE_CODES
    return 0


def _is_unchanged(op: str, opset: int) -> bool:
    """Tell whether an operator that is not as old as 13 has no newer version than at `opset`."""
    if opset <= OLDEST or not onnx.defs.has(op):
        return False
    newest = onnx.defs.get_schema(op, OPSET).since_version
    return OLDEST < newest <= opset


def _fits(node: ir.Node, opset: int) -> bool:
    if node.domain not in {"", "ai.onnx"}:
        return False
    if not has_trait(node.op_type, Trait.SAME_SINCE_13) and not _is_unchanged(node.op_type, opset):
        return False
    schema = onnx.defs.get_schema(node.op_type, opset)
    inputs = len(node.inputs)
    while inputs and node.inputs[inputs - 1] is None:
        inputs -= 1
    return schema.min_input <= inputs <= schema.max_input and all(
        name in schema.attributes for name in node.attributes
    )
