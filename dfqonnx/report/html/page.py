"""`report.html`: one file that needs nothing else, for a person with a minute.

Everything shown comes from `report.json` and the images beside it. Names out of a model are
strangers' input: jinja2 escapes them, and the page's Content-Security-Policy lets only the one
script of ours run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.report.html import images as pictures
from dfqonnx.report.html import tables as rows
from dfqonnx.report.html.chart_set import draw
from dfqonnx.report.report import Report
from dfqonnx.report.text import headline, line, standing, ungated
from dfqonnx.version import __version__

HERE = Path(__file__).parent
NO_CHARTS = "Charts need matplotlib: pip install matplotlib, then dfqonnx report on this folder."


@dataclass(frozen=True)
class Gallery:
    """Synthetic images: by class, and where the two part."""

    by_class: tuple[pictures.Row, ...]
    disagreeing: tuple[pictures.Picture, ...]
    small: bool


def render(report: Report, pixels: NDArray[np.uint8] | None = None) -> str:
    """Return the page.

    Args:
        report: what it shows.
        pixels: synthetic images (N, H, W, C) that `report.seen` speaks of; None leaves them out.
    """
    places = rows.nodes(report)
    return fill(
        "page.html",
        report=report,
        title=Path(report.student.path).name,
        ungated=ungated(report),
        headline=headline(report).partition(": ")[2],
        sides=tuple(rows.sides(report)),
        trained=rows.trained(report),
        nodes=places,
        layers=tuple(node for node in places if node.layer is not None),
        numbers={node.name: node.number for node in places},
        plots=draw(report, places),
        gallery=_gallery(report, pixels),
        facts=tuple(_facts(report)),
        estimated=None
        if report.estimate is None
        else (line(report.estimate, report.drop), standing(report.estimate)),
        no_charts=NO_CHARTS,
    )


def fill(template: str, **values: Any) -> str:
    """Return a template of this folder, filled; style, script and policy are added."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["decibels"] = lambda value: "" if value is None else f"{value:.1f}"
    environment.filters["kib"] = rows.kib
    script = (HERE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    style = (HERE / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        **values, policy=policy, style=style, script=script, version=__version__
    )


def _gallery(report: Report, pixels: NDArray[np.uint8] | None) -> Gallery | None:
    seen = report.seen
    if seen is None or pixels is None or not pictures.fits(seen, pixels):
        return None
    small = max(pixels.shape[1:3]) <= pictures.KEPT_SIDE
    return Gallery(pictures.by_class(seen, pixels), pictures.disagreeing(seen, pixels), small)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """Yield where everything came from: files, hashes, seeds, versions."""
    for what, model in (("float model", report.teacher), ("quantized model", report.student)):
        yield what, model.path
        if model.sha256:
            yield f"sha256 of the {what}", model.sha256
    if report.recipe is not None:
        yield "recipe", f"{report.recipe}, seed {report.seed}"
    if report.images is not None:
        images = report.images
        guided = f"; {images.guided_by}" if images.guided_by else ""
        yield "images", f"{images.count:,} {images.source} (BatchNorm {images.batchnorm}{guided})"
    if report.preprocess is not None:
        said = "assumed, not given" if report.preprocess_guessed else "given"
        text = ", ".join(f"{key} {_plain(value)}" for key, value in report.preprocess.items())
        yield "preprocessing", f"{text} ({said})"
    if report.seconds:
        yield "seconds", ", ".join(f"{name} {value:.1f}" for name, value in report.seconds.items())
    if report.peak_rss_mb is not None:
        yield "peak memory", f"{report.peak_rss_mb:,.0f} MiB"
    for name, value in report.environment.items():
        if value is not None:
            yield str(name), str(value)


def _plain(value: Any) -> str:
    return "/".join(f"{v:g}" for v in value) if isinstance(value, (list, tuple)) else str(value)
