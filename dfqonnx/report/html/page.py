"""`report.html`: one self-contained file for a person with a minute.

Everything on it comes from `report.json` and the images beside it. Names from a model are
untrusted: jinja2 escapes them, and the page's Content-Security-Policy allows only its own script to
run and nothing to be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.foreign_text import MAX_LINE, visible
from dfqonnx.report.html.chart_set import NO_CHARTS, draw_charts
from dfqonnx.report.html.images import (
    MAX_EXACT_SIDE,
    ClassRow,
    Thumbnail,
    disagreeing_images,
    rows_by_class,
)
from dfqonnx.report.html.tables import compare_models, is_trained, node_rows
from dfqonnx.report.measure_lines import main_measure, measure_rows
from dfqonnx.report.number_format import format_decibels, format_size
from dfqonnx.report.report import Report
from dfqonnx.report.target_checks import target_lines
from dfqonnx.report.text import (
    agreement_estimate,
    describe_agreement_estimate,
    describe_calibration,
    describe_estimate,
    describe_figures,
    describe_missing_gates,
    provenance_lines,
)
from dfqonnx.report.verdict import Gate, Topic
from dfqonnx.version import __version__

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Gallery:
    """Held-out synthetic images: by class, and those on which the two models disagree."""

    by_class: tuple[ClassRow, ...]
    disagreeing: tuple[Thumbnail, ...]
    is_pixelated: bool


def render_report(
    report: Report, pixels: NDArray[np.uint8] | None = None, pictures: Sequence[str] = ()
) -> str:
    """Return the page, with the synthetic images (N, H, W, C) of the run where there are some.

    `pictures` are data URIs of what both models make of a few inputs.
    """
    nodes = node_rows(report)
    main = main_measure(report.measures)
    environment = ((str(k), str(v)) for k, v in report.environment.items() if v is not None)
    return render_template(
        "page.html",
        report=report,
        title=Path(report.student.path).name,
        missing_gates=describe_missing_gates(report),
        figures=describe_figures(report),
        statements=describe_statements(report),
        models=tuple(compare_models(report)),
        is_trained=is_trained(report),
        nodes=nodes,
        layers=tuple(node for node in nodes if node.layer is not None),
        numbers={node.name: node.number for node in nodes},
        charts=draw_charts(report, nodes),
        no_charts=NO_CHARTS,
        gallery=_gallery(report, pixels),
        main=None if main is None else measure_rows([main])[0],
        measures=measure_rows(report.measures),
        pictures=tuple(pictures),
        target_lines=() if report.proof is None else tuple(target_lines(report.proof)),
        provenance=(*_provenance(report), *provenance_lines(report), *environment),
        estimates=tuple(describe_estimates(report)),
    )


@dataclass(frozen=True)
class EstimateText:
    """What is estimated, the estimate or why there is none, and how reliable such estimates are."""

    what: str
    words: str
    calibration: str


def describe_estimates(report: Report) -> Iterator[EstimateText]:
    """Yield what was estimated without labels, as the page shows it."""
    drop, agreement = report.estimated_drop, agreement_estimate(report)
    if drop is not None:
        words = describe_estimate(drop, report.drop)
        calibration = describe_calibration(drop.record, "drops")
        yield EstimateText("Top-1 drop, estimated without labels", words, calibration)
    if agreement is not None:
        words = describe_agreement_estimate(agreement, report.agreement.evaluation)
        calibration = describe_calibration(agreement.record, "agreements")
        yield EstimateText("Agreement on real inputs, estimated", words, calibration)


@dataclass(frozen=True, kw_only=True)
class StatementTone:
    """One of the two statements: its words, its color's name, and its gates."""

    topic: Topic
    heading: str
    words: str
    tone: str
    gates: tuple[Gate, ...]


def describe_statements(report: Report) -> tuple[StatementTone, StatementTone]:
    """Return both statements as the page shows them."""
    file, accuracy = report.file_checks, report.accuracy
    found: tuple[tuple[Topic, str, str, str], ...] = (
        ("file", "File", str(file), file.status),
        ("accuracy", "Accuracy", str(accuracy), accuracy.status),
    )
    first, second = (
        StatementTone(
            topic=topic, heading=heading, words=words, tone=tone.replace(" ", "-"),
            gates=tuple(gate for gate in report.gates if gate.topic == topic),
        )
        for topic, heading, words, tone in found
    )  # fmt: skip
    return first, second


def render_template(template: str, **values: Any) -> str:
    """Return a filled template of this folder; style, script and policy are added."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["decibels"] = format_decibels
    environment.filters["size"] = format_size
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


def _finalize(value: Any) -> Any:
    """Return a value as the page shows it; pictures, style and script stay whole."""
    if type(value) is not str or value.startswith("data:image/"):
        return value
    return "\n".join(visible(line, most=MAX_LINE) for line in value.splitlines())


def _gallery(report: Report, pixels: NDArray[np.uint8] | None) -> Gallery | None:
    """Return the images; None where they are missing or were replaced by fewer others."""
    classes = report.held_out_classes
    if classes is None or pixels is None:
        return None
    if not all(0 <= index < len(pixels) for index in classes.images):
        return None
    is_small = max(pixels.shape[1:3]) <= MAX_EXACT_SIDE
    return Gallery(rows_by_class(classes, pixels), disagreeing_images(classes, pixels), is_small)


def _provenance(report: Report) -> Iterator[tuple[str, str]]:
    for label, model in (("float model", report.teacher), ("quantized model", report.student)):
        yield label, model.path
        if model.sha256:
            yield f"sha256 of the {label}", model.sha256
    if report.preprocess is not None:
        origin = "guessed" if report.preprocess_guessed else "given or recorded"
        values = [
            (key, "/".join(f"{v:g}" for v in value) if isinstance(value, (list, tuple)) else value)
            for key, value in report.preprocess.items()
        ]
        yield "preprocessing", f"{', '.join(f'{key} {text}' for key, text in values)} ({origin})"
