"""`dfqonnx synth`: images for a network, kept as files."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, say_json, stdout

if TYPE_CHECKING:
    from dfqonnx.config.commands import SynthConfig
    from dfqonnx.workflows.synth import SynthesizedFiles

Layout = Annotated[
    Literal["NHWC", "NCHW"] | None,
    typer.Option(help="Axes of an npy; the model's own when not given."),
]


def synth(
    model: o.Model,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="NAME.npz (x uint8 NHWC, y the network's classes), NAME.npy (one float32 array, "
            "as other toolchains calibrate with), or a folder for PNG files.",
        ),
    ],
    recipe: Annotated[
        str, typer.Option(help="A shipped recipe ([bold]dfqonnx recipes[/bold]) or a YAML file.")
    ] = "default",
    scale: o.Scale = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="How many; the recipe's own number if not.")
    ] = None,
    layout: Layout = None,
    preprocessed: Annotated[
        bool,
        typer.Option("--preprocessed", help="An npy holds what the model reads, not 0..255."),
    ] = False,
    preprocess: o.Preprocess = None,
    seed: o.Seed = 0,
    device: o.DeviceOption = "auto",
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Make images as a recipe would for a model, and keep them; a contact sheet lies beside."""
    from dfqonnx.config.commands import SynthConfig
    from dfqonnx.config.preprocess import read_preprocess
    from dfqonnx.config.recipe import read_recipe

    spec = SynthConfig(
        model=model,
        out=out,
        recipe=read_recipe(recipe, scale=scale),
        count=count,
        layout=layout,
        preprocessed=preprocessed,
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        seed=seed,
        device=device,
    )
    from dfqonnx.data.write_images import check_images_out
    from dfqonnx.workflows.preflight import check_file

    check_file(model, what="--model")  # before torch is imported
    check_images_out(spec)
    from dfqonnx.workflows.synth import synthesize_to_files

    with display(quiet=quiet, as_json=as_json) as progress:
        found = synthesize_to_files(spec, progress=progress)
    if as_json:
        say_json(_content(found, spec))
    elif not quiet:
        _show(found, spec)
    return 0


def _content(found: SynthesizedFiles, spec: SynthConfig) -> dict[str, Any]:
    content = dataclasses.asdict(found)
    for key in ("out", "sheet", "generator"):
        content[key] = None if content[key] is None else str(content[key])
    return {**content, "recipe": spec.recipe.name, "scale": spec.recipe.scale}


def _show(found: SynthesizedFiles, spec: SynthConfig) -> None:
    console = stdout()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    height, width, channels = found.size
    guided = f" ({found.guided_by})" if found.guided_by else ""
    say(
        f"{found.count:,} images of {height} x {width} x {channels}, source {found.source}{guided},"
        f" in {found.seconds:.0f} s"
    )
    if found.classes:
        most, least = max(found.classes.values()), min(found.classes.values())
        say(f"The network sees {len(found.classes)} classes in them, {least} to {most} images each")
    if found.divergence is not None:
        say(f"Divergence from the training data: {found.divergence:.4f} nats a layer (0 is equal)")
    if found.generator is not None:
        say(
            f"Generator: {found.generator} (a recipe uses it again: synthesis.generator.checkpoint)"
        )
    say(f"Wrote {found.out}, contact sheet {found.sheet}.")
    model, out = shlex.quote(str(spec.model)), shlex.quote(str(spec.out))
    if spec.kind == "npy":
        say(f"Next: numpy.load({str(spec.out)!r}) wherever calibration data is asked for.")
    elif found.divergence is not None:
        say(f"Next: look at the sheet, then dfqonnx similarity --model {model} --images {out}")
    else:
        say(
            f"Next: look at the sheet, then dfqonnx run --model {model} --recipe {spec.recipe.name}"
        )
