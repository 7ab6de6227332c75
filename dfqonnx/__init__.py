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

if TYPE_CHECKING:
    from dfqonnx.api import quantize
    from dfqonnx.errors import (
        DfqError,
        EnvironmentProblem,
        InternalError,
        UnsupportedModel,
        UsageError,
    )
    from dfqonnx.flow import run
    from dfqonnx.planning import plan, preview
    from dfqonnx.report.result import Result
    from dfqonnx.spec.distill import DistillSpec
    from dfqonnx.spec.gates import Rule, parse_gate
    from dfqonnx.spec.inputs import InputSpec
    from dfqonnx.spec.preprocess import read_preprocess
    from dfqonnx.spec.quant import Bits, QuantSpec
    from dfqonnx.spec.recipe import read_recipe
    from dfqonnx.spec.run import Recipe, RunSpec, ValidateSpec
    from dfqonnx.spec.synth import SynthSpec
    from dfqonnx.verification import verify

__version__ = "0.1.0"
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
    "dfqonnx.flow": ("run",),
    "dfqonnx.planning": ("plan", "preview"),
    "dfqonnx.report.result": ("Result",),
    "dfqonnx.spec.distill": ("DistillSpec",),
    "dfqonnx.spec.gates": ("Rule", "parse_gate"),
    "dfqonnx.spec.inputs": ("InputSpec",),
    "dfqonnx.spec.preprocess": ("read_preprocess",),
    "dfqonnx.spec.quant": ("Bits", "QuantSpec"),
    "dfqonnx.spec.recipe": ("read_recipe",),
    "dfqonnx.spec.run": ("Recipe", "RunSpec", "ValidateSpec"),
    "dfqonnx.spec.synth": ("SynthSpec",),
    "dfqonnx.verification": ("verify",),
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: torch takes seconds."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'dfqonnx' has no attribute {name!r}")
