"""What a run would do with a model, known without running anything: `inspect` and `--dry-run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dfqonnx.convert.program import to_program
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.inspect import Inspection, inspect_file
from dfqonnx.graph.load import load
from dfqonnx.graph.normalise import normalise
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.quant import QuantSpec


def preview(model: Path, quant: QuantSpec, inputs: InputSpec | None = None) -> Inspection:
    """Inspect a model, and try whether every node can be trained through.

    Returns:
        what was found; with `refusals` when a run would end with exit code 3.

    Raises:
        UsageError: the file cannot be read.
    """
    found = inspect_file(model, quant, inputs)
    if found.refusals:
        return found
    try:
        to_program(normalise(load(model)))
    except UnsupportedModel as error:
        reasons = tuple(str(offence) for offence in error.offences) or (str(error),)
        return replace(found, refusals=reasons)
    return found
