"""`dfqonnx inspect`: what is in a model and what would be done to it, without running anything."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout
from dfqonnx.errors import UnsupportedModel

if TYPE_CHECKING:
    from dfqonnx.placement.inspection import Inspection


def inspect(
    model: o.Model,
    bits: o.BitsText = "4",
    preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None,
    strict_ends: o.StrictEnds = None,
    weight_storage: o.WeightStorage = "auto",
    target: o.Target = o.DEFAULT_TARGET,
    as_json: o.AsJson = False,
) -> int:
    """Show operators, BatchNorm state, quantizer sites with bits and reasons, costs and size."""
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.request import read_image_size
    from dfqonnx.core.quantization import BitWidths, QuantizationConfig
    from dfqonnx.targets.profile import TARGETS

    quant = QuantizationConfig(
        BitWidths.parse(bits), first_last_bits=strict_ends, weight_storage=weight_storage
    )
    TARGETS[target]  # an unknown name is refused before the model is read
    inputs = None if preprocess is None else read_preprocess(preprocess)
    from dfqonnx.workflows.preflight import check_file

    check_file(model, what="--model")
    from dfqonnx.workflows.inspect import inspect

    return show_inspection(
        inspect(model, quant, inputs, image_size=read_image_size(image_size), target=target),
        quiet=False,
        as_json=as_json,
    )


def show_inspection(inspection: Inspection, *, quiet: bool, as_json: bool) -> int:
    """Print an inspection; 3 if the model is refused.

    Raises:
        UnsupportedModel: refused, and a person is to read the reasons.
    """
    if inspection.refusals and not as_json:
        raise UnsupportedModel(
            f"{inspection.path}: this model cannot be quantized:", inspection.refusals
        )
    if as_json:
        say_json(dataclasses.asdict(inspection))
    elif not quiet:
        stdout().print(str(inspection), markup=False, soft_wrap=True)
    return UnsupportedModel.exit_code if inspection.refusals else 0
