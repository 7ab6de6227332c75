"""`dfqonnx similarity`: how close images are to the network's training data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, print_json, print_table, print_text

if TYPE_CHECKING:
    from dfqonnx.synthesis.divergence import Divergence
    from dfqonnx.workflows.similarity import Similarity


def similarity(
    file: o.ModelFile = None,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGES", help="A folder of images, or an npz.", show_default=False),
    ] = None,
    model: o.Model = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="IMAGES", help="Another way to give IMAGES."),
    ] = None,
    preprocess: o.Preprocess = None,
    references: Annotated[
        bool,
        typer.Option(
            help="Also measure noise, dead leaves and images optimized through this model, "
            "as a scale for the number."
        ),
    ] = True,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Measure how close images are to the training data, by the model's BatchNorm statistics."""
    from dfqonnx.config.commands import SimilarityConfig
    from dfqonnx.config.preprocess import read_preprocess

    example = "similarity MODEL.onnx IMAGES"
    spec = SimilarityConfig(
        model=o.choose_model(file, model, example),
        images=o.choose_file(folder, images, what="IMAGES", flag="--images", command=example),
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        references=references,
        seed=seed,
        device=device,
    )
    from dfqonnx.workflows.preflight import check_model

    check_model(spec.model, what="model")  # before torch is imported
    from dfqonnx.workflows.similarity import measure_similarity

    with display(quiet=quiet, as_json=as_json) as progress:
        found = measure_similarity(spec, progress=progress)
    if as_json:
        print_json(_json_content(found))
    elif quiet:
        typer.echo(f"{found.divergence.divergence:.4f}")
    else:
        _show(found)
    return 0


def _json_content(found: Similarity) -> dict[str, Any]:
    return {
        "model": found.model,
        "batchnorm": found.batchnorm,
        "preprocess": dataclasses.asdict(found.preprocess),
        "images": {"path": found.images, "note": found.note, **_numbers(found.divergence)},
        "references": [{"name": r.name, **_numbers(r.divergence)} for r in found.references],
    }


def _numbers(measured: Divergence) -> dict[str, Any]:
    return {
        "count": measured.count,
        "divergence": measured.divergence,
        "total": measured.total,
        "layers": [dataclasses.asdict(layer) for layer in measured.layers],
    }


def _show(found: Similarity) -> None:
    count = len(found.divergence.layers) - found.divergence.counts_input
    beside = " and its input" if found.divergence.counts_input else ""
    print_text(
        f"Divergence of {found.images} from the training data of {found.model}, by the statistics"
        f" of its {count} BatchNormalizations{beside}, in nats (0 is"
        " identical):"
    )
    if found.note:
        print_text(found.note)
    sets = [(reference.name, reference.divergence) for reference in found.references]
    sets = sorted([*sets, (found.images, found.divergence)], key=lambda pair: -pair[1].divergence)
    print_table(
        ["images", "n", "mean over layers", "sum over layers (J)"],
        [
            (name, f"{one.count:,}", f"{one.divergence:.4f}", f"{one.total:.3f}")
            for name, one in sets
        ],
        bold=[one for _, one in sets].index(found.divergence),
    )
    worst = ", ".join(f"{layer.name} {layer.divergence:.3g}" for layer in found.divergence.worst())
    print_text(f"The layers with the largest divergence are: {worst}.")
    print_text(_compare_with_references(found))


def _compare_with_references(found: Similarity) -> str:
    if not found.references:
        return (
            "Leave out --no-references to see what noise, dead leaves and optimized images score."
        )
    own = found.divergence.divergence
    further = [r.name for r in found.references if r.divergence.divergence > own]
    closer = [r.name for r in found.references if r.divergence.divergence <= own]
    if not closer:
        return f"These images are closer to the training data than {further[-1]}."
    if not further:
        return f"These images are further from the training data than {closer[0]}."
    return (
        f"These images are closer to the training data than {further[-1]}, but further from it"
        f" than {closer[0]}."
    )
