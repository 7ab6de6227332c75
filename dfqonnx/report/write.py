"""Everything of an output folder but the model itself."""

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

from dfqonnx.report.html.page import render
from dfqonnx.report.junit import junit
from dfqonnx.report.markdown import markdown
from dfqonnx.report.model import Report

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
        (folder / "junit.xml").write_text(junit(report), encoding="utf-8")
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
        held: places of those that nothing was trained on; `validate` measures on them again.
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
