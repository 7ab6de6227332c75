"""`dfqonnx validate`: measures a quantized file against its float teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.report import report_to_ci, show_report
from dfqonnx.cli.show import display


def validate(
    teacher: Annotated[Path, typer.Option("--teacher", "-t", help="The float ONNX file.")],
    student: Annotated[Path, typer.Option("--student", "-s", help="The quantized ONNX file.")],
    eval_data: o.EvalData = None,
    images: o.RealImages = None,
    metric: o.Metric = None,
    head: o.Head = None,
    fit: o.FitText = None,
    pixel_range: o.PixelRangeText = None,
    preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None,
    inputs: o.Inputs = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Also write the reports to this folder, with junit.xml where gates are given.",
        ),
    ] = None,
    seed: o.Seed = 0,
    gate: o.Gates = None,
    strict: o.Strict = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Measure agreement, accuracy, parity, fusion, size and speed. Ends with 1 if a gate fails."""
    from dfqonnx.config.measuring import read_measuring
    from dfqonnx.config.request import validate_request
    from dfqonnx.workflows.preflight import check_validation

    spec = validate_request(
        teacher, student, preprocess=preprocess, image_size=image_size, eval_data=eval_data,
        inputs=inputs or (), images=images, gates=gate or (), strict=strict, out=out, seed=seed,
        measuring=read_measuring(metric, head, fit, pixel_range),
    )  # fmt: skip
    check_validation(spec)
    from dfqonnx.workflows.validate import validate

    with display(quiet=quiet, as_json=as_json) as progress:
        report = validate(spec, progress=progress)
    notes = [] if out is None else [f"Wrote {', '.join(str(out / n) for n in report.files)}."]
    show_report(report, notes, quiet=quiet, as_json=as_json)
    report_to_ci(report, out)
    return report.exit_code
