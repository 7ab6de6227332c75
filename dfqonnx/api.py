"""One call for the whole job, with the power of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfqonnx.config.commands import Device
from dfqonnx.config.measuring import read_measuring
from dfqonnx.config.recipe import Recipe
from dfqonnx.config.request import Gates, ImageSize, Inputs, run_request
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization import BitWidths, Storage
from dfqonnx.report.result import Result
from dfqonnx.targets.profile import DEFAULT_TARGET
from dfqonnx.workflows import run as flow


def quantize(
    model: str | Path,
    bits: str | int | BitWidths = "w4a4",
    *,
    preprocess: str | Path | Preprocessing | None = None,
    eval_data: str | Path | None = None, images: str | Path | None = None,
    metric: str | None = None, head: str | None = None, fit: str | None = None,
    pixel_range: str | None = None, classes: str | Path | None = None,
    recipe: str | Path | Recipe = "default", scale: str | None = None,
    gates: Gates = (), strict: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    image_size: ImageSize = None, inputs: Inputs = (),
    budget: str | float | None = None,
    strict_ends: int | None = None, weight_storage: Storage = "auto",
    keep_float: Sequence[str] = (), bits_for: Mapping[str, str | int] | Sequence[str] = (),
    device: Device = "auto", target: str = DEFAULT_TARGET,
    progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Quantize a model without data; a `DfqError` says why it cannot be, a failed gate nothing.

    Args:
        model: the float ONNX file.
        bits: one width for weights and activations (4, "4"), both ("w4a8"), or `BitWidths`.
        preprocess: preset, YAML file or `Preprocessing`; None reads the file or guesses.
        eval_data: what to measure on (npz, folder, tar, COCO json, wav, ...); never trained on.
        images: real images without labels (folder or npz), to measure on; never trained on.
        metric: a measure of your own, "FILE.py:FUNCTION"; gates may hold the names it returns.
        head: how a detector's outputs become boxes, or "ctc"; None finds one by shape.
        fit: how images are brought to the model's size: "crop", "stretch", "letterbox", "pad".
        pixel_range: of output pictures, such as "0:255"; None finds a usual one.
        classes: a file with the names of the model's classes, in order.
        recipe: a shipped recipe, a YAML file, or `Recipe`.
        scale: of the recipe, "paper" for instance; "quick" where it has one and None is given.
        gates: rules for the result, such as "drop<=1.0".
        strict: as `--strict`: everything but a `pass` stands against `passed`.
        out: output folder, complete or absent at the end; `<model>-<bits>` here when None.
        seed: of every random choice.
        image_size: where the model leaves it open: "240x320", (240, 320), or one number.
        inputs: values of inputs that are no image, by name (numbers, lists or arrays).
        budget: time for the whole run, labeled images aside: seconds, or "10m".
        strict_ends: weight bits of the first and last layer; None leaves them like the others.
        weight_storage: "auto" packs weights of 4 bits and fewer as INT4, "int8" does not.
        keep_float: nodes to leave in float: names, patterns such as "head*", operators.
        bits_for: other widths for some layers, such as {"head*": "w8a8"}.
        device: where images and training run; "auto" takes CUDA where present.
        target: runtime that the file is for; `dfqonnx targets` lists them.
        progress: told of every stage; None is silent.
    """
    config = run_request(
        model, bits, preprocess=preprocess, eval_data=eval_data, images=images, recipe=recipe,
        scale=scale, gates=gates, strict=strict, out=out, seed=seed, image_size=image_size,
        inputs=inputs, budget=budget, strict_ends=strict_ends, weight_storage=weight_storage,
        device=device, target=target, keep_float=keep_float, bits_for=bits_for,
        measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
    )  # fmt: skip
    return Result(config.out, flow.run(config, progress=progress))
