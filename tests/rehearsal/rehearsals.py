"""Small models on their way through placement, rehearsal and export, with untrained numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.evaluation.parity import Parity, measure_parity
from dfqonnx.export.export import check, export
from dfqonnx.export.untrained import set_untrained_parameters
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.rehearsal.rehearse import rehearse
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TargetProfile
from tests.export.ortrun import executed, run
from tests.export.rough import run_floats


class Warnings(SilentProgress):
    """Keeps what a rehearsal warns of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


@dataclass(kw_only=True)
class Rehearsed:
    """The file that a rehearsal ended with, run on inputs that it did not see."""

    plan: QuantizationPlan
    path: Path
    sqnr: float  # of the file as deployed against the float file, in decibels
    parity: Parity
    kernels: dict[str, int]  # operators that the runtime executes
    bytes_ratio: float
    warnings: list[str] = field(default_factory=list)


def rehearse_model(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    bits: BitWidths | None = None,
    target: TargetProfile = ONNXRUNTIME_CPU,
) -> Rehearsed:
    """Take a float model through a rehearsal; its names, types and shapes are checked."""
    source = folder / "float.onnx"
    onnx.save(proto, source)
    model = normalize(load(source))
    quant = QuantizationConfig(bits or BitWidths(8, 8))
    rng = np.random.default_rng(3)
    x, unseen = rng.normal(size=(2, 2, *model.input_shape)).astype(np.float32)
    progress = Warnings()
    plan = rehearse(
        model,
        lambda kept: place_quantizers(model, quant, target, input_signed=True, kept_float=kept),
        x,
        storage="auto",
        progress=progress,
    )
    params = set_untrained_parameters(model, plan, run_floats(model, np.concatenate([x, unseen])))
    data = check(export(model, plan, params)).SerializeToString()
    path = folder / "quantized.onnx"
    path.write_bytes(data)
    assert ports(source) == ports(path)
    parity = measure_parity(path, unseen)
    assert parity is not None
    return Rehearsed(
        plan=plan,
        path=path,
        sqnr=decibels(run(source, unseen, optimize=False), run(path, unseen, optimize=True)),
        parity=parity,
        kernels=dict(executed(path, folder)),
        bytes_ratio=path.stat().st_size / source.stat().st_size,
        warnings=progress.said,
    )


def decibels(signal: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the power of the signal over that of the error; means count, unlike in reports.

    The outputs of random networks behind a mean over the image hardly vary.
    """
    error = float(np.square(signal.astype(np.float64) - found).sum())
    return float(10 * np.log10(float(np.square(signal.astype(np.float64)).sum()) / error))


def ports(path: Path) -> list[tuple[str, str, list[Any]]]:
    """Return name, type and shape of every input and output, as the runtime sees them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options)
    return [(p.name, p.type, p.shape) for p in (*session.get_inputs(), *session.get_outputs())]


Block = Callable[..., str]
Constant = NDArray[Any]
