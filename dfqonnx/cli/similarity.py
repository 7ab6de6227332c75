"""`dfqonnx similarity`: how close images are to what the network was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, say_json, stdout

if TYPE_CHECKING:
    from dfqonnx.synthesis.divergence import Divergence
    from dfqonnx.workflows.similarity import Similarity


def similarity(
    model: o.Model,
    images: Annotated[
        Path, typer.Option("--images", help="A folder of images, or an npz with x (uint8, NHWC).")
    ],
    preprocess: o.Preprocess = None,
    references: Annotated[
        bool,
        typer.Option(
            help="Also measure noise, dead leaves and images optimized through this model, "
            "so that the number can be placed."
        ),
    ] = True,
    seed: o.Seed = 0,
    device: o.DeviceOption = "auto",
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Tell how close any images are to the training data, from BatchNorm statistics alone."""
    from dfqonnx.config.commands import SimilarityConfig
    from dfqonnx.config.preprocess import read_preprocess

    spec = SimilarityConfig(
        model=model,
        images=images,
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        references=references,
        seed=seed,
        device=device,
    )
    from dfqonnx.workflows.similarity import measure_similarity

    with display(quiet=quiet, as_json=as_json) as progress:
        found = measure_similarity(spec, progress=progress)
    if as_json:
        say_json(_content(found))
    elif quiet:
        typer.echo(f"{found.divergence.divergence:.4f}")
    else:
        _show(found)
    return 0


def _content(found: Similarity) -> dict[str, Any]:
    return {
        "model": found.model,
        "batchnorm": found.batchnorm,
        "preprocess": dataclasses.asdict(found.preprocess),
        "images": {"path": found.images, "note": found.note, **_figures(found.divergence)},
        "references": [
            {"name": reference.name, **_figures(reference.divergence)}
            for reference in found.references
        ],
    }


def _figures(likeness: Divergence) -> dict[str, Any]:
    return {
        "count": likeness.count,
        "divergence": likeness.divergence,
        "total": likeness.total,
        "layers": [dataclasses.asdict(layer) for layer in likeness.layers],
    }


def _show(found: Similarity) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console, likeness = stdout(), found.divergence
    console.print(
        f"Divergence of {found.images} from the training data of {found.model}, as its"
        f" {len(likeness.layers)} BatchNormalizations remember it (nats; 0 is the same):",
        markup=False,
        soft_wrap=True,
    )
    if found.note:
        console.print(found.note, markup=False, soft_wrap=True)
    table = Table("images", box=box.SIMPLE, pad_edge=False)
    for heading in ("n", "mean over layers", "sum over layers (J)"):
        table.add_column(heading, justify="right")
    rows = [(reference.name, reference.divergence) for reference in found.references]
    rows.append((found.images, likeness))
    for name, row in sorted(rows, key=lambda pair: -pair[1].divergence):
        mine = "bold" if row is likeness else ""
        figures = (f"{row.count:,}", f"{row.divergence:.4f}", f"{row.total:.3f}")
        table.add_row(Text(name), *figures, style=mine)
    console.print(table)
    worst = ", ".join(f"{layer.name} {layer.divergence:.3g}" for layer in likeness.worst())
    console.print(f"Layers furthest off: {worst}.", markup=False, soft_wrap=True)
    console.print(_sentence(found), markup=False, soft_wrap=True)


def _sentence(found: Similarity) -> str:
    if not found.references:
        return "Without --no-references: what noise, dead leaves and optimized images score."
    mine = found.divergence.divergence
    further = [r.name for r in found.references if r.divergence.divergence > mine]
    closer = [r.name for r in found.references if r.divergence.divergence <= mine]
    if not closer:
        return f"These images are closer to the training data than {further[-1]}."
    if not further:
        return f"These images are further from the training data than {closer[0]}."
    return f"These images are closer to the training data than {further[-1]}, not than {closer[0]}."
