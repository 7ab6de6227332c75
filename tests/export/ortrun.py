"""ONNX Runtime without any help of dfqonnx."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray


def run(path: Path | bytes, x: NDArray[Any], *, optimize: bool) -> NDArray[Any]:
    """Return the first output."""
    session = ort.InferenceSession(
        path if isinstance(path, bytes) else str(path), _options(optimize=optimize)
    )
    found: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def executed(path: Path, folder: Path) -> Counter[str]:
    """Return the operators of the graph that the runtime executes."""
    options = _options(optimize=True)
    options.optimized_model_filepath = str(folder / "executed.onnx")
    ort.InferenceSession(str(path), options)
    return Counter(node.op_type for node in onnx.load(folder / "executed.onnx").graph.node)


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the largest difference over the largest magnitude."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def _options(*, optimize: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return options
