"""Patterns of exporters, written as NAME | OPSET | OPERATORS, then indented nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU


@dataclass(frozen=True)
class Pattern:
    """Nodes in ONNX text, and the operators that are expected of them."""

    name: str
    opset: int
    operators: list[str]
    body: str

    @property
    def words(self) -> set[str]:
        """Every name in the nodes: those of constants too."""
        return set(re.findall(r"\w+", self.body))


def patterns(text: str) -> list[Pattern]:
    found = []
    for block in re.split(r"\n(?=\S)", text.strip()):
        title, _, body = block.partition("\n")
        name, opset, operators = (part.strip() for part in title.split("|"))
        found.append(Pattern(name, int(opset), operators.split(), body))
    return found


def floats_before_the_end(model: NormalizedModel) -> list[str]:
    """Return the operators that stay in float in front of the last layer."""
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths(8, 8)), ONNXRUNTIME_CPU, input_signed=True
    )
    assert all(site.reason for site in sites.floats)
    return sorted(s.op for s in sites.floats if "behind the last layer" not in s.reason)


def named(proto: onnx.ModelProto) -> onnx.ModelProto:
    for node in proto.graph.node:
        node.name = f"@{node.output[0]}"
    return proto


def real(*values: float) -> NDArray[np.float32]:
    """One value makes a scalar."""
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)
