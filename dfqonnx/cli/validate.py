"""`dfqonnx validate`: measures a quantized file against its float teacher."""

from __future__ import annotations

from dfqonnx.cli import options as o
from dfqonnx.cli.report import report_to_ci, show_report
from dfqonnx.cli.show import display


def validate(
    first: o.FloatFile = None,
    second: o.QuantizedFile = None,
    teacher: o.Teacher = None,
    student: o.Student = None,
    eval_data: o.EvalData = None,
    images: o.RealImages = None,
    classes: o.Classes = None,
    metric: o.Metric = None,
    head: o.Head = None,
    fit: o.FitText = None,
    pixel_range: o.PixelRangeText = None,
    preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None,
    inputs: o.Inputs = None,
    out: o.ReportOut = None,
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

    float_file, quantized_file = o.choose_pair(first, second, teacher, student)
    spec = validate_request(
        float_file, quantized_file, preprocess=preprocess, image_size=image_size,
        eval_data=eval_data, inputs=inputs or (), images=images, gates=gate or (), strict=strict,
        out=out, seed=seed,
        measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
    )  # fmt: skip
    from dfqonnx.workflows.staged_files import stage

    with stage(spec) as (local, staged):
        check_validation(local)
        from dfqonnx.workflows.validate import validate

        with display(quiet=quiet, as_json=as_json) as progress:
            found = validate(local, progress=progress)
    report, folder = staged.name_report(found), local.out
    written = [] if folder is None else [staged.name(str(folder / n)) for n in report.files]
    notes = [] if folder is None else [f"Wrote {', '.join(written)}."]
    show_report(report, notes, quiet=quiet, as_json=as_json)
    report_to_ci(report, folder)
    return report.exit_code
