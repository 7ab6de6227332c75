"""What `import dfqonnx` promises."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import dfqonnx

PROMISED = {
    "BitWidths", "ComparisonTable", "DfqError", "DistillationConfig", "EnvironmentProblem",
    "GateRule",
    "InternalError", "MeasuringConfig", "Preprocessing", "QuantizationConfig", "Recipe", "Result",
    "RunConfig", "Progress", "ProgressBars", "Report", "SilentProgress", "SynthesizedFiles",
    "compare", "evaluate", "synthesize",
    "SynthesisConfig", "UnsupportedModel", "UsageError", "ValidateConfig", "dry_run", "inspect",
    "parse_gate", "quantize", "read_preprocess", "read_recipe", "run", "validate",
}  # fmt: skip


def test_the_promise_is_kept_word_for_word() -> None:
    assert set(dfqonnx.__all__) == PROMISED
    assert dfqonnx.__all__ == sorted(dfqonnx.__all__)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_public_name_is_there_and_explains_itself(name: str) -> None:
    thing = getattr(dfqonnx, name)
    assert inspect.isclass(thing) or callable(thing)
    assert inspect.getdoc(thing)


@pytest.mark.parametrize("name", sorted(n for n in PROMISED if n.islower()))
def test_functions_take_few_positional_arguments(name: str) -> None:
    signature = inspect.signature(getattr(dfqonnx, name))
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 3


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = dfqonnx.quantise


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys, dfqonnx\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_specs_are_values() -> None:
    quant = dfqonnx.QuantizationConfig(dfqonnx.BitWidths.parse("w4a8"))
    assert quant == dfqonnx.QuantizationConfig(dfqonnx.BitWidths(4, 8))
    assert hash(quant) == hash(dfqonnx.QuantizationConfig(dfqonnx.BitWidths(4, 8)))
