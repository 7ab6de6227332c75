"""`dfqonnx synth`: synthesizes images for a network and writes them to files."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, print_json, print_text

if TYPE_CHECKING:
    from dfqonnx.config.commands import SynthConfig
    from dfqonnx.workflows.synth import SynthesizedFiles

Layout = Annotated[
    Literal["NHWC", "NCHW"] | None,
    typer.Option(help="Layout of an npy; by default that of the model."),
]


def synth(
    file: o.ModelFile = None,
    model: o.Model = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="NAME.npz (x uint8 NHWC, y the network's classes), NAME.npy (one float32 array, "
            "for the calibration of other toolchains), or a folder for PNG files; by default "
            "<model>-images.npz in this folder.",
        ),
    ] = None,
    recipe: o.Recipe = "default",
    scale: o.Scale = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="Number of images; by default that of the recipe."),
    ] = None,
    layout: Layout = None,
    preprocessed: Annotated[
        bool,
        typer.Option("--preprocessed", help="Write preprocessed values to an npy, not 0..255."),
    ] = False,
    preprocess: o.Preprocess = None,
    inputs: o.Inputs = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Synthesize images for a model by a recipe, and write them with a contact sheet."""
    from dfqonnx.config.commands import SynthConfig
    from dfqonnx.config.input_values import read_inputs
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.recipe import read_recipe

    path = o.choose_model(file, model, "synth MODEL.onnx --out images.npz")
    images = Path(f"{path.stem}-images.npz") if out is None else out
    spec = SynthConfig(
        model=path, out=images, recipe=read_recipe(recipe, scale=scale), count=count, layout=layout,
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        preprocessed=preprocessed, inputs=read_inputs(inputs or ()), seed=seed, device=device,
    )  # fmt: skip
    from dfqonnx.data.write_images import check_images_out
    from dfqonnx.workflows.preflight import check_model

    check_model(spec.model, what="model")  # before torch is imported
    check_images_out(spec)
    from dfqonnx.workflows.synth import synthesize_to_files

    with display(quiet=quiet, as_json=as_json) as progress:
        found = synthesize_to_files(spec, progress=progress)
    if as_json:
        content = {"recipe": spec.recipe.name, "scale": spec.recipe.scale}
        print_json({**dataclasses.asdict(found), **content})
    elif not quiet:
        _show(found, spec)
    return 0


def _show(found: SynthesizedFiles, spec: SynthConfig) -> None:
    height, width, channels = found.size
    guided = f" ({found.guided_by})" if found.guided_by else ""
    print_text(
        f"Synthesized {found.count:,} images of {height} x {width} x {channels} from source"
        f" {found.source!r}{guided} in {found.seconds:.0f} s."
    )
    if found.classes:
        most, least = max(found.classes.values()), min(found.classes.values())
        print_text(
            f"The network assigns them to {len(found.classes)} classes, {least} to {most} images"
            " per class."
        )
    if found.divergence is not None:
        print_text(
            f"Their divergence from the training data is {found.divergence:.4f} nats per layer"
            " (by BatchNorm statistics; 0 is identical)."
        )
    if found.generator is not None:
        print_text(
            f"The generator is in {found.generator}; a recipe can load it with"
            " synthesis.generator.checkpoint."
        )
    print_text(f"Wrote {found.out}, contact sheet {found.sheet}.")
    model, out = shlex.quote(str(spec.model)), shlex.quote(str(spec.out))
    if spec.kind == "npy":
        print_text(f"Next: use numpy.load({str(spec.out)!r}) as calibration data.")
    elif found.divergence is not None:
        print_text(f"Next: look at the sheet, then dfqonnx similarity {model} --images {out}")
    else:
        recipe = spec.recipe.name
        print_text(f"Next: look at the sheet, then dfqonnx run {model} --recipe {recipe}")
