"""Whether a node fits an operator that we have; if not, what to tell the user."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dfqonnx.convert import registry
from dfqonnx.errors import Offence

Names = tuple[str | None, ...]
EVAL_MODE = "export the model in eval mode (torch: model.eval())"


def unknown(node: ir.Node, name: str, opset: int | None) -> Offence:
    """Return why there is no operator for the node."""
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if node.domain not in ("", "ai.onnx"):
        reason = f"domain {node.domain} is not supported"
        return Offence(name, op, reason, "export with operators of the domain ai.onnx only")
    if opset is None:
        return Offence(name, op, "the model imports no ai.onnx opset", "re-export the model")
    since = registry.since_version("", node.op_type, opset)
    if since is None:
        return Offence(name, op, f"opset {opset} has no such operator", "re-export the model")
    others = registry.versions(node.op_type)
    if others:
        listed = ", ".join(str(version) for version in others)
        reason = f"version {since} is not supported (known: {listed})"
        return Offence(name, op, reason, "convert the model to opset 21")
    advice = "leave it out of the exported part of the model"
    return Offence(name, op, "this operator is not supported", advice)


def misfit(
    known: registry.Operator, node: ir.Node, name: str, ends: tuple[Names, Names]
) -> Offence | None:
    """Return why the node does not fit the operator, or None; `ends` are its inputs and outputs."""
    inputs, outputs = ends
    given = set(node.attributes)
    reason = None
    if extra := sorted(given - known.attributes):
        reason = f"attribute {extra[0]} is not supported"
    elif missing := sorted(known.required - given):
        reason = f"attribute {missing[0]} is missing"
    elif len(inputs) < known.least or None in inputs[: known.least]:
        reason = f"has {len(inputs)} inputs, but needs {known.least}"
    elif known.most is not None and len(inputs) > known.most:
        reason = f"has {len(inputs)} inputs, but only {known.most} are supported"
    if reason is not None:
        return Offence(name, node.op_type, reason, "re-export with a current exporter")
    if wrong := _wrong_choice(known, node):
        return Offence(name, node.op_type, wrong[0], wrong[1])
    if len(outputs) > 1 and not known.counts_outputs:
        reason = f"has {len(outputs)} outputs, but only the first is supported"
        return Offence(name, node.op_type, reason, EVAL_MODE)
    return None


def _wrong_choice(known: registry.Operator, node: ir.Node) -> tuple[str, str] | None:
    for attribute, allowed in known.choices.items():
        value: Any = node.attributes[attribute].value if attribute in node.attributes else None
        if value is None or value in allowed:
            continue
        if attribute == "training_mode":
            return "is in training mode", EVAL_MODE
        listed = ", ".join(str(choice) for choice in allowed)
        return f"attribute {attribute} is {value!r}; supported: {listed}", "re-export the model"
    return None
