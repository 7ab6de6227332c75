"""Calls that need torch: `quantize`, the whole job, and `synthesize`, its images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfqonnx.checkpoint.cache import CacheUse
from dfqonnx.config.commands import Device, RunConfig, SynthConfig
from dfqonnx.config.effort import Effort
from dfqonnx.config.input_values import read_inputs
from dfqonnx.config.measuring import read_measuring
from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.recipe import Recipe, read_recipe
from dfqonnx.config.request import Gates, ImageSize, Inputs, run_request
from dfqonnx.config.search_limits import Limit, read_limits
from dfqonnx.core.input_format import Layout, Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.core.progress_bars import show_progress
from dfqonnx.core.quantization import BitWidths, Storage
from dfqonnx.report.result import Result
from dfqonnx.targets.profile import DEFAULT_TARGET
from dfqonnx.workflows import run as flow
from dfqonnx.workflows.synth import SynthesizedFiles, synthesize_to_files


def quantize(
    model: str | Path, bits: str | int | BitWidths = "w4a4", *, eval_data: str | Path | None = None,
    bits_for: Mapping[str, str | int] | Sequence[str] = (), recipe: str | Path | Recipe = "default",
    preprocess: str | Path | Preprocessing | None = None, calibrate_with: str | Path | None = None,
    classes: str | Path | None = None, budget: str | float | None = None, metric: str | None = None,
    images: str | Path | None = None, weight_storage: Storage = "auto", scale: str | None = None,
    progress: Progress | None = None, memory: str | int | None = None, image_size: ImageSize = None,
    pixel_range: str | None = None, keep_float: Sequence[str] = (), strict_ends: int | None = None,
    out: str | Path | None = None, target: str = DEFAULT_TARGET, head: str | None = None,
    min_speed: Limit = None, device: Device = "auto", effort: Effort = "default", seed: int = 0,
    no_cache: bool = False, fit: str | None = None, max_drop: Limit = None, max_size: Limit = None,
    inputs: Inputs = (), fresh: bool = False, gates: Gates = (), strict: bool = False,
) -> Result:  # fmt: skip
    """Quantize a model without data; a `DfqError` says why it cannot be, a failed gate nothing.

    Args:
        model: the float ONNX file.
        bits: one width for weights and activations (4, "4"), both ("w4a8"), "auto", `BitWidths`.
        preprocess: preset, YAML file or `Preprocessing`; None reads the file or guesses.
        eval_data: what to measure on (npz, folder, tar, COCO json, wav, ...); never trained on.
        images: real images without labels (folder or npz), to measure on; never trained on.
        metric: a measure of your own, "FILE.py:FUNCTION"; gates may hold the names it returns.
        head: how a detector's outputs become boxes, or "ctc"; None finds one by shape.
        fit: how images are brought to the model's size: "crop", "stretch", "letterbox", "pad".
        pixel_range: of output pictures, such as "0:255"; None finds a usual one.
        classes: a file with the names of the model's classes, in order.
        recipe: a shipped recipe, a YAML file, or `Recipe`.
        scale: of the recipe, such as "paper"; "quick" where it has one and None is given.
        gates: rules for the result, such as "drop<=1.0".
        strict: as `--strict`: everything but a `pass` stands against `passed`.
        out: output folder, complete or absent at the end; `<model>-<bits>` here when None.
        seed: of every random choice.
        image_size: where the model leaves it open: "240x320", (240, 320), or one number.
        inputs: values of inputs that are no image, by name (numbers, lists or arrays).
        budget: time for the whole run, labeled images aside: seconds, or "10m".
        effort: work on images and training: "quick", "default" or "high".
        memory: the most that the process may hold: bytes, or "4GiB"; None takes what there is.
        strict_ends: weight bits of the first and last layer; None leaves them like the others.
        weight_storage: "auto" packs weights of 4 bits and fewer as INT4, "int8" does not.
        calibrate_with: unlabeled images of yours to join the synthetic ones; a quarter is held out.
        keep_float: nodes to leave in float: names, patterns such as "head*", operators.
        bits_for: other widths for some layers, such as {"head*": "w8a8"}; w8a16 for any node.
        max_drop: look for widths that lose at most so many points, as estimated.
        max_size: look for widths of at most "0.15x" of the float bytes, or "500KiB".
        min_speed: look for widths at so many times the float speed.
        device: where images and training run; "auto" takes CUDA where present.
        target: runtime that the file is for; `dfqonnx targets` lists them.
        fresh: begin anew, where a call that was interrupted would go on.
        no_cache: use and keep nothing between runs.
        progress: told of every stage; None draws bars in terminals and notebooks.
    """
    config, use = run_request(
        model, bits, measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
        limits=read_limits(bits, max_drop, max_size, min_speed), weight_storage=weight_storage,
        calibrate_with=calibrate_with, strict_ends=strict_ends, preprocess=preprocess, scale=scale,
        image_size=image_size, keep_float=keep_float, eval_data=eval_data, bits_for=bits_for,
        images=images, recipe=recipe, strict=strict, inputs=inputs, budget=budget, effort=effort,
        memory=memory, device=device, target=target, gates=gates, seed=seed, out=out,
    ), CacheUse(enabled=not no_cache, fresh=fresh)  # fmt: skip
    return _run(config, use, progress)


def _run(config: RunConfig, use: CacheUse, progress: Progress | None) -> Result:
    with show_progress(progress) as shown:
        return Result(config.out, flow.run(config, progress=shown, cache=use))


def synthesize(
    model: str | Path,
    out: str | Path | None = None,
    *,
    count: int | None = None,
    recipe: str | Path | Recipe = "default",
    scale: str | None = None,
    layout: Layout | None = None,
    preprocessed: bool = False,
    preprocess: str | Path | Preprocessing | None = None,
    seed: int = 0,
    device: Device = "auto",
    inputs: Inputs = (),
    progress: Progress | None = None,
) -> SynthesizedFiles:
    """Make images for a network as a recipe would, and write them with a contact sheet.

    Args:
        model: the float ONNX file.
        out: NAME.npz, NAME.npy or a folder for PNG files; `<model>-images.npz` when None.
        count: of images; None leaves it to the recipe.
        recipe: a shipped recipe, a YAML file, or `Recipe`.
        scale: of the recipe, "paper" for instance.
        layout: of an npy, "NCHW" or "NHWC"; None takes the model's own.
        preprocessed: whether an npy holds what the model reads, else pixels 0..255.
        preprocess: preset, YAML file or `Preprocessing`; None reads the file or guesses.
        seed: of every random choice.
        device: where images are made; "auto" takes CUDA where present.
        inputs: values of inputs that are no image, by name.
        progress: told of every stage; None draws bars in terminals and notebooks.

    Raises:
        UsageError: an argument cannot be read, or the recipe does not fit the model.
        UnsupportedModel: dfqonnx cannot read the model.
        EnvironmentProblem: the device is missing, or the disk is full.
    """
    model = Path(model)
    if not (preprocess is None or isinstance(preprocess, Preprocessing)):
        preprocess = read_preprocess(str(preprocess))
    config = SynthConfig(
        model=model,
        out=Path(f"{model.stem}-images.npz") if out is None else Path(out),
        recipe=recipe if isinstance(recipe, Recipe) else read_recipe(str(recipe), scale=scale),
        count=count,
        layout=layout,
        preprocessed=preprocessed,
        preprocess=preprocess,
        seed=seed,
        device=device,
        inputs=read_inputs(inputs),
    )
    with show_progress(progress) as shown:
        return synthesize_to_files(config, progress=shown)
