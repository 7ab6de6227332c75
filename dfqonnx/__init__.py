"""dfqonnx: quantize an ONNX network to 8..2 bits without data, and prove the result.

    import dfqonnx

    result = dfqonnx.quantize("resnet20.onnx", "w4a4", gates=["size<=0.2x", "float_nodes==0"])
    print(result.verdict, result.student, result.report.latency)

`quantize` and `Result` are enough for most; `run(RunSpec(...))` is the same with every setting
checked before, `verify(ValidateSpec(...))` holds a file against its float teacher, and
`dfqonnx.testing.assert_quantized` does so in a test suite.

Everything is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dfqonnx.version import __version__

if TYPE_CHECKING:
    from dfqonnx.api import quantize
    from dfqonnx.config.commands import RunSpec, ValidateSpec
    from dfqonnx.config.distillation import DistillSpec
    from dfqonnx.config.gates import Rule, parse_gate
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.recipe import Recipe, read_recipe
    from dfqonnx.config.synthesis import SynthSpec
    from dfqonnx.core.input_format import InputSpec
    from dfqonnx.core.quantization import Bits, QuantSpec
    from dfqonnx.errors import (
        DfqError,
        EnvironmentProblem,
        InternalError,
        UnsupportedModel,
        UsageError,
    )
    from dfqonnx.report.result import Result
    from dfqonnx.workflows.inspect import plan, preview
    from dfqonnx.workflows.run import run
    from dfqonnx.workflows.validate import verify

__all__ = [
    "Bits",
    "DfqError",
    "DistillSpec",
    "EnvironmentProblem",
    "InputSpec",
    "InternalError",
    "QuantSpec",
    "Recipe",
    "Result",
    "Rule",
    "RunSpec",
    "SynthSpec",
    "UnsupportedModel",
    "UsageError",
    "ValidateSpec",
    "__version__",
    "parse_gate",
    "plan",
    "preview",
    "quantize",
    "read_preprocess",
    "read_recipe",
    "run",
    "verify",
]

_HOMES = {
    "dfqonnx.api": ("quantize",),
    "dfqonnx.errors": (
        "DfqError",
        "EnvironmentProblem",
        "InternalError",
        "UnsupportedModel",
        "UsageError",
    ),
    "dfqonnx.workflows.run": ("run",),
    "dfqonnx.workflows.inspect": ("plan", "preview"),
    "dfqonnx.report.result": ("Result",),
    "dfqonnx.config.distillation": ("DistillSpec",),
    "dfqonnx.config.gates": ("Rule", "parse_gate"),
    "dfqonnx.core.input_format": ("InputSpec",),
    "dfqonnx.config.preprocess": ("read_preprocess",),
    "dfqonnx.core.quantization": ("Bits", "QuantSpec"),
    "dfqonnx.config.recipe": ("Recipe", "read_recipe"),
    "dfqonnx.config.commands": ("RunSpec", "ValidateSpec"),
    "dfqonnx.config.synthesis": ("SynthSpec",),
    "dfqonnx.workflows.validate": ("verify",),
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: torch takes seconds."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'dfqonnx' has no attribute {name!r}")
