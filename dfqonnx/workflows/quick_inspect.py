"""`dfqonnx inspect` without PyTorch, where every node is surely one that can be trained through.

It says the same as `workflows/inspect.py`, in a fraction of a second; in any doubt it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.quantization import NodeRules, QuantizationConfig
from dfqonnx.errors import UnsupportedModel
from dfqonnx.export.opset import check_operators
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.graph.translatable import is_surely_translatable
from dfqonnx.placement.inspection import Inspection, build_inspection, refusal
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS
from dfqonnx.workflows.executable import check_executable


def inspect_quickly(
    model: Path,
    quant: QuantizationConfig,
    preprocess: Preprocessing | None = None,
    *,
    image_size: tuple[int, ...] | None = None,
    target: str = DEFAULT_TARGET,
    given: Mapping[str, NDArray[Any]] | None = None,
    rules: NodeRules | None = None,
) -> Inspection | None:
    """Inspect a model; None where only a translation can tell what becomes of it.

    Raises:
        UsageError: the file cannot be read, or a rule means no node.
    """
    try:
        found = open_model(model, image_size=image_size, given=given)
        if not (is_surely_translatable(found) and _is_executable(model, found)):
            return None
    except UnsupportedModel as error:
        return refusal(model, quant, error)
    return inspect_opened(model, found, quant, preprocess, target=target, rules=rules)


def inspect_opened(
    path: Path,
    model: NormalizedModel,
    quant: QuantizationConfig,
    preprocess: Preprocessing | None,
    *,
    target: str,
    rules: NodeRules | None,
) -> Inspection:
    """Inspect the model that was opened from `path`, whose nodes can be trained through.

    Raises:
        UsageError: a rule means no node.
    """
    try:
        check_operators(model.ir, TARGETS[target])
    except UnsupportedModel as error:
        return refusal(path, quant, error)
    signed = preprocess is None or preprocess.signed
    plan = place_quantizers(model, quant, TARGETS[target], input_signed=signed, rules=rules)
    return build_inspection(model, plan, quant)


def _is_executable(path: Path, model: NormalizedModel) -> bool:
    """Return whether the runtime runs the float network; where not, others say why."""
    try:
        check_executable(path, model)
    except UnsupportedModel:
        return False
    return True
