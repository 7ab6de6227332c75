"""Plans and roles of small networks in ONNX text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.placement.place import place_quantizers
from dfqonnx.placement.roles import Roles, assign_roles
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import network, through

W4A4 = QuantizationConfig(BitWidths(4, 4))
CONV = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (4, 4, 3, 3), "k": (5, 4)}
P = "Conv<pads=[1,1,1,1]>"
HEAD = "g = GlobalAveragePool({}) f = Flatten(g) y = Gemm<transB=1>(f, k)"


def normalized(
    folder: Path, body: str, weights: Mapping[str, Any], **options: str
) -> NormalizedModel:
    """Return the normalized network; a node is called @ and its first output."""
    proto = network(body, weights, **options)  # type: ignore[arg-type]
    for node in proto.graph.node:
        node.name = f"@{node.output[0]}"
    return through(proto, folder)[1]


def place(
    model: NormalizedModel, quant: QuantizationConfig = W4A4, *, signed: bool = True
) -> QuantizationPlan:
    return place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=signed)


def plan_of(
    folder: Path,
    body: str,
    weights: Mapping[str, Any],
    quant: QuantizationConfig = W4A4,
    *,
    signed: bool = True,
    **options: str,
) -> QuantizationPlan:
    return place(normalized(folder, body, weights, **options), quant, signed=signed)


def roles_of(
    folder: Path, body: str, weights: Mapping[str, Any], **options: str
) -> tuple[dict[str, str], dict[str, str], Roles]:
    """Return the role and the reason of every node by name, and all of it."""
    roles = assign_roles(normalized(folder, body, weights, **options).ir.graph, ONNXRUNTIME_CPU)
    reasons = {str(node.name): reason for node, reason in roles.reasons.items()}
    return {str(node.name): role for node, role in roles.of.items()}, reasons, roles


def short(plan: QuantizationPlan) -> dict[str, str]:
    """Name -> bits, sign, role and marks, in one short string."""
    return {s.name: _short(s) for s in plan.activations}


def _short(quantizer: ActivationQuantizer) -> str:
    sign = "s" if quantizer.grid.signed else "u"
    top = "" if quantizer.clip_max is None else f"<{quantizer.clip_max:g}"
    return f"{sign}{quantizer.grid.bits}{top} {quantizer.role}" + (
        " feature" if quantizer.feature else ""
    )
