"""Everything of an output folder but the model itself.

`report.json` back into a `Report`: what a later command or version reads.

Keys that this version does not know are passed over, those that are missing take their defaults,
so a report written by any dfqonnx with the same schema number can be read.

`report.html` written once more from an output folder alone: report.json and its images.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.errors import UsageError
from dfqonnx.report.ci import format_junit
from dfqonnx.report.html.images import load_pixels
from dfqonnx.report.html.page import render
from dfqonnx.report.report import SCHEMA, Report
from dfqonnx.report.text import markdown

OWN = ("report.html", "report.md", "report.json")
SHEET_IMAGES, SHEET_PIXELS = 64, 1024


def write_report(
    report: Report, folder: Path, *, pixels: NDArray[np.uint8] | None = None
) -> Report:
    """Write junit.xml (where the user set gates), report.html, report.md and report.json.

    Args:
        report: what is written.
        folder: of the output.
        pixels: synthetic images (N, H, W, C) for the page.

    Returns:
        the report with every file named.
    """
    if any(gate.asked for gate in report.gates):
        (folder / "junit.xml").write_text(format_junit(report), encoding="utf-8")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    report = dataclasses.replace(report, files=tuple(sorted({*names, *OWN})))
    (folder / "report.html").write_text(render(report, pixels), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    return report


def write_images(pixels: NDArray[np.uint8], folder: Path, *, held: Sequence[int] = ()) -> None:
    """Write synthetic images (N, H, W, C) as `images.npz` and a contact sheet.

    Args:
        pixels: all images of a run.
        folder: made where it is missing.
        held: places of those that nothing was trained on; `evaluate` measures on them again.
    """
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "images.npz", x=pixels, held=np.array(held, np.int64))
    contact_sheet(pixels).save(folder / "contact-sheet.png")


def write_arrays(arrays: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Write arrays by name as npz, without pickles."""
    keyed: dict[str, Any] = dict(arrays)
    np.savez_compressed(path, **keyed)


def contact_sheet(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return the first images side by side in a square, enlarged where they are small."""
    shown = pixels[:SHEET_IMAGES]
    side = max(1, math.ceil(math.sqrt(len(shown))))
    _, height, width, channels = shown.shape
    sheet = np.full((side * (height + 1), side * (width + 1), channels), 255, np.uint8)
    for index, image in enumerate(shown):
        y, x = index // side * (height + 1), index % side * (width + 1)
        sheet[y : y + height, x : x + width] = image
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet[..., :3])
    factor = max(1, SHEET_PIXELS // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)


def write_log(events: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")


NAME = "report.json"
_BOUNDS = ("value", "low", "high", "n")


def read_report(folder: Path) -> Report:
    """Return the report that lies in `folder` (or in the file `report.json` itself).

    Raises:
        UsageError: there is none, or it is none that this version reads; the key is named.
    """
    path = folder / NAME if folder.is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: has no {NAME}; give the output folder of `dfqonnx run`"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable report ({error})") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise UsageError(f"{path}: schema {found!r}; this dfqonnx reads {SCHEMA!r}")
    try:
        return _ADAPTER.validate_python(_nested(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {key}: {first['msg'].lower()}") from None


def _nested(content: dict[str, Any]) -> dict[str, Any]:
    """Undo what `to_json` flattens."""
    content = {**content}
    flat = content.pop("drop_points", None)
    if flat is not None:
        rest = {key: value for key, value in flat.items() if key not in _BOUNDS}
        content["drop"] = {"points": {key: flat.get(key) for key in _BOUNDS}, **rest}
    return content


_ADAPTER = TypeAdapter(Report)
PAGE = "report.html"


def rewrite(folder: Path) -> tuple[Report, Path]:
    """Write the page of a finished run; nothing else in the folder changes.

    Returns:
        the report, and where its page lies.

    Raises:
        UsageError: no folder of a run.
        EnvironmentProblem: it cannot be written.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the output folder of `dfqonnx run`")
    report = read_report(folder)
    text = render(report, load_pixels(folder))
    page = folder / PAGE
    with atomic_file(page) as place:
        place.write_text(text, encoding="utf-8")
    return report, page


def find_teacher(report: Report, folder: Path) -> Path | None:
    """Return the float file that a report names, looked for from here and from its folder."""
    named = Path(report.teacher.path)
    places = (named, folder / named, folder.parent / named, folder.parent / named.name)
    return next((place for place in places if place.is_file()), None)
