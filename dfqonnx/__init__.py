"""dfqonnx: quantize an ONNX network to 8..2 bits without data, and prove the result.

    import dfqonnx

    result = dfqonnx.quantize("resnet20.onnx", "w4a4", gates=["size<=0.2x", "float_nodes==0"])
    print(result.verdict, result.student, result.report.latency)

`quantize` and `Result` are enough for most. The steps by themselves are `synthesize`, `evaluate`
and `compare`; `run(RunConfig(...))` and `validate(ValidateConfig(...))` take settings as values
that were checked before, and `dfqonnx.testing.assert_quantized` holds a file to rules in a test
suite.
Stages are shown as bars in terminals and notebooks; give `progress=SilentProgress()`, or a
`Progress` of your own, for anything else.

Everything is imported when it is first asked for. ONNX Runtime keeps records of its use, model and
node names among them, and sends them where it can. What is read only once, at its import, switches
that off, here and in every process that is started from here.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from dfqonnx.errors import explain_missing
from dfqonnx.version import __version__ as __version__

if TYPE_CHECKING:
    from dfqonnx.api import quantize, synthesize
    from dfqonnx.config.commands import RunConfig, ValidateConfig
    from dfqonnx.config.distillation import DistillationConfig
    from dfqonnx.config.gates import GateRule, parse_gate
    from dfqonnx.config.measuring import MeasuringConfig
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.recipe import Recipe, read_recipe
    from dfqonnx.config.synthesis import SynthesisConfig
    from dfqonnx.core.input_format import Preprocessing
    from dfqonnx.core.progress import Progress, SilentProgress
    from dfqonnx.core.progress_bars import ProgressBars
    from dfqonnx.core.quantization import BitWidths, QuantizationConfig
    from dfqonnx.errors import (
        DfqError,
        EnvironmentProblem,
        InternalError,
        UnsupportedModel,
        UsageError,
    )
    from dfqonnx.measure import compare, evaluate
    from dfqonnx.report.comparison import ComparisonTable
    from dfqonnx.report.report import Report
    from dfqonnx.report.result import Result
    from dfqonnx.workflows.inspect import dry_run, inspect
    from dfqonnx.workflows.run import run
    from dfqonnx.workflows.synth import SynthesizedFiles
    from dfqonnx.workflows.validate import validate

__all__ = [
    "BitWidths",
    "ComparisonTable",
    "DfqError",
    "DistillationConfig",
    "EnvironmentProblem",
    "GateRule",
    "InternalError",
    "MeasuringConfig",
    "Preprocessing",
    "Progress",
    "ProgressBars",
    "QuantizationConfig",
    "Recipe",
    "Report",
    "Result",
    "RunConfig",
    "SilentProgress",
    "SynthesisConfig",
    "SynthesizedFiles",
    "UnsupportedModel",
    "UsageError",
    "ValidateConfig",
    "compare",
    "dry_run",
    "evaluate",
    "inspect",
    "parse_gate",
    "quantize",
    "read_preprocess",
    "read_recipe",
    "run",
    "synthesize",
    "validate",
]

if "onnxruntime" in sys.modules and not os.environ.get("ORT_DISABLE_TELEMETRY"):
    warnings.warn(
        "onnxruntime was imported before dfqonnx, so it keeps records of its use; import dfqonnx"
        " first, or set ORT_DISABLE_TELEMETRY=1",
        stacklevel=2,
    )
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOMES = {
    "dfqonnx.api": ("quantize", "synthesize"),
    "dfqonnx.measure": ("compare", "evaluate"),
    "dfqonnx.report.comparison": ("ComparisonTable",),
    "dfqonnx.report.report": ("Report",),
    "dfqonnx.core.progress": ("Progress", "SilentProgress"),
    "dfqonnx.core.progress_bars": ("ProgressBars",),
    "dfqonnx.workflows.synth": ("SynthesizedFiles",),
    "dfqonnx.errors": (
        "DfqError",
        "EnvironmentProblem",
        "InternalError",
        "UnsupportedModel",
        "UsageError",
    ),
    "dfqonnx.workflows.run": ("run",),
    "dfqonnx.workflows.inspect": ("dry_run", "inspect"),
    "dfqonnx.report.result": ("Result",),
    "dfqonnx.config.distillation": ("DistillationConfig",),
    "dfqonnx.config.gates": ("GateRule", "parse_gate"),
    "dfqonnx.config.measuring": ("MeasuringConfig",),
    "dfqonnx.core.input_format": ("Preprocessing",),
    "dfqonnx.config.preprocess": ("read_preprocess",),
    "dfqonnx.core.quantization": ("BitWidths", "QuantizationConfig"),
    "dfqonnx.config.recipe": ("Recipe", "read_recipe"),
    "dfqonnx.config.commands": ("RunConfig", "ValidateConfig"),
    "dfqonnx.config.synthesis": ("SynthesisConfig",),
    "dfqonnx.workflows.validate": ("validate",),
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: torch takes seconds."""
    for module, names in _HOMES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(module), name)
            except ModuleNotFoundError as error:
                raise explain_missing(error) or error from None
    raise AttributeError(f"module 'dfqonnx' has no attribute {name!r}")
