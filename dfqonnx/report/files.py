"""The files of an output folder, except the model itself: written, and read back.

A report of the same schema can be read whatever version of dfqonnx wrote it: unknown keys are
ignored, and missing ones take their defaults.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.data.foreign_files import parsing
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.measures.side_pictures import SidePicture
from dfqonnx.report.ci import format_junit
from dfqonnx.report.html.images import captioned_sheet, load_pixels
from dfqonnx.report.html.page import render_report
from dfqonnx.report.html.side_by_side import load_pictures, write_pictures
from dfqonnx.report.report import SCHEMA, Report
from dfqonnx.report.sections import HeldOutClasses
from dfqonnx.report.text import format_markdown

PAGE, MARKDOWN, REPORT = "report.html", "report.md", "report.json"
JUNIT = "junit.xml"
_ADAPTER = TypeAdapter(Report)


def write_report(
    report: Report,
    folder: Path,
    *,
    pixels: NDArray[np.uint8] | None = None,
    pictures: Sequence[SidePicture] = (),
) -> Report:
    """Write report.html, report.md, report.json and, where there are rules, junit.xml.

    Synthetic images (N, H, W, C), and what both models make of a few inputs, appear on the page.
    The returned report lists every file.
    """
    write_pictures(pictures, folder)
    if any(gate.origin != "check" for gate in report.gates):
        (folder / JUNIT).write_text(format_junit(report), encoding="utf-8")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    report = dataclasses.replace(report, files=tuple(sorted({*names, PAGE, MARKDOWN, REPORT})))
    (folder / PAGE).write_text(
        render_report(report, pixels, load_pictures(folder)), encoding="utf-8"
    )
    (folder / MARKDOWN).write_text(format_markdown(report), encoding="utf-8")
    (folder / REPORT).write_text(report.to_json(), encoding="utf-8")
    return report


def write_images(
    pixels: NDArray[np.uint8],
    folder: Path,
    *,
    held: Sequence[int] = (),
    source: str,
    classes: HeldOutClasses | None = None,
) -> None:
    """Write synthetic images (N, H, W, C) from `source` as `images.npz`, and a contact sheet.

    `held` has the indices of the held-out images, on which `dfqonnx validate` measures; those
    whose `classes` are known are shown by class.
    """
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "images.npz", x=pixels, held=np.array(held, np.int64))
    known = None
    shown = pixels
    if classes is not None:
        both = zip(classes.images, classes.teacher, strict=False)  # a hasty run classes the first
        pairs = [(index, label) for index, label in both if index < len(pixels)]
        known = np.array([label for _, label in pairs], np.int64)
        shown = pixels[[index for index, _ in pairs]] if pairs else pixels
    sheet = captioned_sheet(shown, count=len(pixels), source=source, classes=known)
    sheet.save(folder / "contact-sheet.png", optimize=True)


def write_arrays(arrays: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Write named arrays as npz, without pickles."""
    keyed: dict[str, Any] = dict(arrays)
    np.savez_compressed(path, **keyed)


def write_log(events: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")


def read_report(folder: Path) -> Report:
    """Return the report in `folder`, or in the file `report.json` itself.

    Raises:
        UsageError: there is none, or this version cannot read it; the message names the key.
    """
    path = folder / REPORT if folder.is_dir() else folder
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no plain file; give the output folder of `dfqonnx run`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: has no {REPORT}; give the output folder of `dfqonnx run`"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a readable report ({error})") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise UsageError(
            f"{path}: its schema is {found!r}; this version of dfqonnx reads {SCHEMA!r}"
        )
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {key}: {first['msg'].lower()}") from None


def rewrite_page(folder: Path) -> tuple[Report, Path]:
    """Write the page of a finished run again, from its report and images; nothing else changes.

    The report and the path of the page are returned.

    Raises:
        UsageError: this is not the folder of a run.
        EnvironmentProblem: the page cannot be written.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the output folder of `dfqonnx run`")
    report = read_report(folder)
    with parsing(str(folder / REPORT), "report: its parts contradict each other"):
        text = render_report(report, load_pixels(folder), load_pictures(folder))
    with atomic_file(folder / PAGE) as place:
        place.write_text(text, encoding="utf-8")
    return report, folder / PAGE


def relabel_report(folder: Path, rename: Callable[[str], str]) -> Report:
    """Write the reports in a folder again with every text passed through `rename`; return it.

    Raises:
        UsageError: this is not the folder of a run.
    """
    report = rename_texts(read_report(folder), rename)
    (folder / REPORT).write_text(report.to_json(), encoding="utf-8")
    (folder / MARKDOWN).write_text(format_markdown(report), encoding="utf-8")
    if JUNIT in report.files:
        (folder / JUNIT).write_text(format_junit(report), encoding="utf-8")
    return rewrite_page(folder)[0]


def rename_texts(report: Report, rename: Callable[[str], str]) -> Report:
    """Return a report with every text in it passed through `rename`."""
    return _ADAPTER.validate_python(_rename(json.loads(report.to_json()), rename))


def _rename(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _rename(item, rename) for key, item in value.items()}
    if isinstance(value, list):
        return [_rename(item, rename) for item in value]
    return rename(value) if isinstance(value, str) else value


def find_teacher(report: Report, folder: Path) -> Path | None:
    """Return the float file that a report names, relative to here or to the report's folder."""
    named = Path(report.teacher.path)
    places = (named, folder / named, folder.parent / named, folder.parent / named.name)
    return next((place for place in places if place.is_file()), None)
