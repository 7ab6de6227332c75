"""`dfqonnx inspect`: what a model holds and how it would be quantized, without running it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, print_json, print_text
from dfqonnx.core.postponed_import import postpone_import
from dfqonnx.core.sensitivity_table import describe_sensitivity
from dfqonnx.errors import UnsupportedModel

if TYPE_CHECKING:
    from dfqonnx.placement.inspection import Inspection

ONLY_FOR_SYMBOLIC_SIZES = ("sympy", "onnx_ir._symbolic_shapes")  # which no inspection computes with


def inspect(
    file: o.ModelFile = None, model: o.Model = None, bits: o.BitsText = "4",
    preprocess: o.Preprocess = None, image_size: o.ImageSize = None, inputs: o.Inputs = None,
    strict_ends: o.StrictEnds = None,
    keep_float: o.KeepFloat = None,
    bits_for: o.BitsFor = None,
    weight_storage: o.WeightStorage = "auto",
    target: o.Target = o.DEFAULT_TARGET,
    layers: o.Layers = False,
    sensitivity: o.Sensitivity = False,
    as_json: o.AsJson = False,
) -> int:  # fmt: skip
    """Show operators, BatchNorm state, quantizers with their bits and reasons, costs and size."""
    from dfqonnx.config.input_values import read_inputs
    from dfqonnx.config.placement import read_rules
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.request import read_image_size
    from dfqonnx.config.target_widths import advise_widths, check_widths
    from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
    from dfqonnx.targets.profile import TARGETS

    path = o.choose_model(file, model, "inspect MODEL.onnx")
    quant = QuantizationConfig(
        BitWidths.parse(bits),
        first_last_bits=strict_ends,
        weight_storage=weight_storage,
    )
    rules = read_rules(keep_float or (), bits_for or (), NodeRules())
    check_widths(TARGETS[target], quant, rules)  # before the model is read
    fed = None if preprocess is None else read_preprocess(preprocess)
    given = read_inputs(inputs or ())
    from dfqonnx.workflows.preflight import check_model

    check_model(path, what="model")
    for name in ONLY_FOR_SYMBOLIC_SIZES:
        postpone_import(name)
    from dfqonnx.workflows.quick_inspect import inspect_quickly

    size = read_image_size(image_size)
    found = inspect_quickly(
        path, quant, fed, image_size=size, target=target, given=given, rules=rules
    )
    if found is None:
        from dfqonnx.workflows.inspect import inspect

        found = inspect(path, quant, fed, image_size=size, target=target, given=given, rules=rules)
    if not as_json and not found.refusals:
        for line in advise_widths(TARGETS[target], quant, rules):
            print_text(line)
    if sensitivity and not found.refusals:
        from dfqonnx.workflows.inspect_sensitivity import measure_model

        with display(quiet=False, as_json=as_json) as progress:
            costs = measure_model(
                path, fed, image_size=size, target=target, given=given, rules=rules,
                progress=progress,
            )  # fmt: skip
        found = dataclasses.replace(found, sensitivity=costs)
    return show_inspection(found, layers=layers, quiet=False, as_json=as_json)


def show_inspection(inspection: Inspection, *, layers: bool, quiet: bool, as_json: bool) -> int:
    """Print an inspection, `layers` one by one, and return the exit code, 3 for a refused model.

    Raises:
        UnsupportedModel: the model is refused, and the reasons are not asked for as JSON.
    """
    if inspection.refusals and not as_json:
        raise UnsupportedModel(
            f"{inspection.path}: this model cannot be quantized:", inspection.refusals
        )
    if as_json:
        print_json(dataclasses.asdict(inspection))
    elif not quiet:
        print_text(str(inspection) if layers else inspection.summary())
        if inspection.sensitivity is not None:
            for line in describe_sensitivity(inspection.sensitivity):
                print_text(line)
    return UnsupportedModel.exit_code if inspection.refusals else 0
