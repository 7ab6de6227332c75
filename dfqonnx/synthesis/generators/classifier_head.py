"""The teacher's last layer, where it is a plain one: its input, and its row for every class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dfqonnx.convert.program import Program


@dataclass(frozen=True)
class Classifier:
    """logits = features rows^T + bias."""

    features: str  # the name of its input, (B, D)
    rows: Tensor  # (K, D), its weights


def find_classifier(teacher: Program) -> Classifier | None:
    """Return the layer that computes the logits; None where that is no Gemm with a weight."""
    for step in teacher.steps:
        if teacher.logits not in step.outputs or step.op != "Gemm":
            continue
        features, weight = step.inputs[:2]
        if (
            features is None
            or weight is None
            or weight not in teacher.tensors
            or step.attributes.get("transA")
        ):
            return None
        rows = teacher.tensors[weight]
        return Classifier(features, rows if step.attributes.get("transB") else rows.T)
    return None
