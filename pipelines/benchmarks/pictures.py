"""What each recipe dreams: docs/sources.md and its contact sheets, from the folders of runs.

    python pipelines/benchmarks/pictures.py RUNS... [--draw 64 [--recipes R ...]]

Of runs with the same recipe the first found is shown; recipes without a run are drawn anew with
`--draw`, for models/resnet20.onnx at their usual scale and without what is painted beside their own
images. Those for which there is neither keep the sheet that they have: with its figures where
`ancestors.py images` drew it, else as an earlier one. A sheet has a row for each class as the float
network sees it; its colors are reduced to 256, so that the files stay small.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from tables.ancestors_page import read_pictured

from dfqonnx.config.commands import SynthConfig
from dfqonnx.config.recipe import Recipe, shipped_recipes
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.report.html.images import class_sheet
from dfqonnx.runtime.session import Session
from dfqonnx.workflows.synth import synthesize_to_files

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "resnet20.onnx"
MEASURED = ROOT / "pipelines" / "results" / "ancestors_images.jsonl"
ROWS, COLUMNS, LOOKED_AT = 10, 5, 512
LARGEST = 150_000  # bytes of a sheet
ACROSS = 3  # pictures side by side
HEAD = """# What each recipe dreams

Images that the recipes make for a ResNet-20 on CIFAR-10 at `quick` scale, none of those painted beside among them: drawn by
`python pipelines/benchmarks/ancestors.py images`, and laid out by `pictures.py` beside it. A row is a class as the network sees it (0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog,
7 horse, 8 ship, 9 truck; classes that it sees nowhere have no row). The number is the divergence of all images from what
BatchNormalization remembers of the training data, in nats a layer (`dfqonnx similarity`); *earlier* are sheets of a recipe as it was in
version 0.2, which have not been drawn anew. At `quick` scale recipes that optimize images begin with
dead leaves (`dfq` shows them untouched) and have steps for texture and color, not for new shapes; `--scale paper` begins with noise.
How the methods compare, by what training on their images gains, by feature rank and by spread within a class, is in
[ANCESTORS.md](../pipelines/results/ANCESTORS.md); what earlier versions of the recipes lost, in [RESULTS.md](../pipelines/results/RESULTS.md).
Procedural images, the source `procedural`, are dead leaves and pictures of random writing, the latter in the share that comes nearest to what
BatchNormalization remembers (`text_fraction` sets it); optimized images begin with them.
A network that reads no image gets structured fields, the source `fields`: slopes, harmonics, envelopes and silence, and a quarter noise.

Draw them for your own network with `dfqonnx synth --model M --recipe NAME -n 128 --out images.npz`.
"""  # noqa: E501 (paragraphs)


@dataclass(frozen=True)
class Picture:
    """One recipe's sheet."""

    recipe: str
    about: str
    divergence: float | None
    count: int
    sheet: Image.Image


def find(places: Sequence[Path]) -> dict[str, Path]:
    """Return a run's folder for every recipe that has images."""
    found: dict[str, Path] = {}
    for place in places:
        for report in sorted(place.rglob("report.json")):
            if (report.parent / "synthetic" / "images.npz").is_file():
                found.setdefault(_recipe(report.parent), report.parent)
    return found


def _recipe(folder: Path) -> str:
    """Return the name of a run's recipe; its report may say the scale, too."""
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    return str(recipe["name"])


def look(folder: Path, about: str) -> Picture:
    """Return the sheet of one run."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    with np.load(folder / "synthetic" / "images.npz", allow_pickle=False) as file:
        pixels = file["x"]
    shown = pixels[:LOOKED_AT]
    preprocess = {**report["preprocess"]}
    for key in ("mean", "std"):
        preprocess[key] = tuple(preprocess[key])
    session = Session(Path(report["teacher"]["path"]))
    port = session.inputs[0]
    shape = tuple(int(size or 0) for size in port.shape[1:])
    x = InputFormat(Preprocessing(**preprocess), shape).to_tensor(shown)
    logits = next(iter(session.run_batched({port.name: x}).values()))
    sheet = class_sheet(shown, logits.argmax(1), rows=ROWS, columns=COLUMNS, sheet_pixels=360)
    images = report.get("images") or {}
    return Picture(
        recipe=_recipe(folder),
        about=about,
        divergence=images.get("divergence"),
        count=len(pixels),
        sheet=sheet,
    )


def draw(recipe: Recipe, count: int) -> Picture:
    """Return the sheet of images drawn for it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "images.npz"
        inputs = PRESETS["cifar10"]
        alone = own_images(recipe)
        made = synthesize_to_files(
            SynthConfig(model=MODEL, out=out, recipe=alone, count=count, preprocess=inputs)
        )
        with np.load(out, allow_pickle=False) as file:
            pixels, classes = file["x"], file["y"]
    return Picture(
        recipe=recipe.name,
        about=recipe.about,
        divergence=made.divergence,
        count=len(pixels),
        sheet=class_sheet(pixels, classes, rows=ROWS, columns=COLUMNS, sheet_pixels=360),
    )


def own_images(recipe: Recipe) -> Recipe:
    """Return the recipe with images of its own alone; those of sources that paint stay painted."""
    config = recipe.synthesis
    leaves = config.dead_leaves_fraction if recipe.name == "default" else 0.0
    return dataclasses.replace(
        recipe,
        synthesis=dataclasses.replace(config, painted_fraction=0.0, dead_leaves_fraction=leaves),
    )


def earlier(docs: Path, known: Mapping[str, Recipe]) -> dict[str, str]:
    """Return the cells of recipes that a page has already, without figures."""
    sheets = {name: docs / "images" / f"source-{name}.png" for name in known}
    return {
        name: f"![{name}](images/{sheet.name})<br>**{name}** (earlier)<br>{known[name].about}"
        for name, sheet in sheets.items()
        if sheet.is_file()
    }


def measured(docs: Path, file: Path, known: Mapping[str, Recipe]) -> dict[str, str]:
    """Return the cells of recipes whose sheets and figures `ancestors.py images` made."""
    return {
        each.recipe: _cell(each.recipe, each.divergence, each.count, known[each.recipe].about)
        for each in read_pictured(file)
        if each.recipe in known and (docs / "images" / f"source-{each.recipe}.png").is_file()
    }


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet in 256 colors.

    Raises:
        SystemExit: it is too large.
    """
    few = sheet.quantize(256, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path}: {path.stat().st_size} bytes; {LARGEST} at most")


def _cell(name: str, divergence: float | None, count: int, about: str) -> str:
    far = "" if divergence is None else f"{divergence:.3f}, "
    return f"![{name}](images/source-{name}.png)<br>**{name}** ({far}{count:,} images)<br>{about}"


def write(pictures: Iterable[Picture], docs: Path, kept: Mapping[str, str]) -> None:
    """Write every sheet and the page; `kept` are cells of recipes without a new picture.

    Raises:
        SystemExit: a sheet is too large.
    """
    (docs / "images").mkdir(parents=True, exist_ok=True)
    found = dict(kept)
    for picture in pictures:
        path = docs / "images" / f"source-{picture.recipe}.png"
        save_sheet(picture.sheet, path)
        found[picture.recipe] = _cell(
            picture.recipe, picture.divergence, picture.count, picture.about
        )
    cells = [found[name] for name in sorted(found, key=lambda name: (name != "default", name))]
    lines = [HEAD, "\n"]
    for first in range(0, len(cells), ACROSS):
        row = cells[first : first + ACROSS]
        row += [""] * (ACROSS - len(row))
        lines.append("| " + " | ".join(row) + " |\n")
        if not first:
            lines.append("| " + " | ".join(["---"] * ACROSS) + " |\n")
    (docs / "sources.md").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, help="output folders, or folders of them")
    parser.add_argument("--draw", type=int, help="images of every recipe that has no run")
    parser.add_argument("--recipes", nargs="+", help="names that --draw draws; all by default")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="of `ancestors.py images`")
    arguments = parser.parse_args()
    known = shipped_recipes()
    folders = find(arguments.runs)
    shown = [look(run, known[name].about if name in known else "") for name, run in folders.items()]
    if arguments.draw:
        named = arguments.recipes or known
        shown += [draw(known[name], arguments.draw) for name in named if name not in folders]
    kept = measured(arguments.docs, arguments.measured, known)
    if not shown and not kept:
        raise SystemExit(
            "no run with images there; give output folders of `dfqonnx run`, or --draw"
        )
    write(shown, arguments.docs, {**earlier(arguments.docs, known), **kept})
