"""`dfqonnx inspect`: what is in a model and what would be done to it, without running anything."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout

if TYPE_CHECKING:
    from dfqonnx.graph.inspect import Inspection


def inspect(
    model: o.Model,
    bits: o.BitsText = "4",
    preprocess: o.Preprocess = None,
    strict_ends: o.StrictEnds = None,
    weight_storage: o.WeightStorage = "auto",
    as_json: o.AsJson = False,
) -> int:
    """Show operators, BatchNorm state, quantizer sites with bits and reasons, costs and size."""
    from dfqonnx.spec.preprocess import read_preprocess
    from dfqonnx.spec.quant import Bits, QuantSpec

    quant = QuantSpec(Bits.parse(bits), ends=strict_ends, storage=weight_storage)
    inputs = None if preprocess is None else read_preprocess(preprocess)
    from dfqonnx.graph.inspect import inspect_file

    show_inspection(inspect_file(model, quant, inputs), quiet=False, as_json=as_json)
    return 0


def show_inspection(inspection: Inspection, *, quiet: bool, as_json: bool) -> None:
    """Print an inspection."""
    if as_json:
        say_json(dataclasses.asdict(inspection))
    elif not quiet:
        stdout().print(str(inspection))
