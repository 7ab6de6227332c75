"""`dfqonnx run`: quantizes a model and measures the result."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dfqonnx.cli import options as o
from dfqonnx.cli.report import report_to_ci, show_report
from dfqonnx.cli.show import display, print_text

if TYPE_CHECKING:
    from dfqonnx.config.commands import RunConfig
    from dfqonnx.report.report import Report


def run(
    file: o.ModelFile = None,
    model: o.Model = None,
    bits: o.BitsText = "4",
    preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None,
    inputs: o.Inputs = None,
    eval_data: o.EvalData = None,
    images: o.RealImages = None,
    classes: o.Classes = None,
    metric: o.Metric = None,
    head: o.Head = None,
    fit: o.FitText = None,
    pixel_range: o.PixelRangeText = None,
    recipe: o.Recipe = "default",
    scale: o.Scale = None,
    budget: o.Budget = None,
    out: o.RunOut = None,
    strict_ends: o.StrictEnds = None,
    keep_float: o.KeepFloat = None,
    bits_for: o.BitsFor = None,
    weight_storage: o.WeightStorage = "auto",
    seed: o.Seed = 0,
    device: o.Device = "auto",
    target: o.Target = o.DEFAULT_TARGET,
    gate: o.Gates = None,
    strict: o.Strict = False,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Quantize a model: synthesize, distill, export, evaluate. Ends with 1 if a gate fails."""
    from dfqonnx.config.measuring import read_measuring
    from dfqonnx.config.request import run_request

    path = o.choose_model(file, model, "run MODEL.onnx --bits 4")
    spec = run_request(
        path, bits, preprocess=preprocess, image_size=image_size, eval_data=eval_data,
        inputs=inputs or (), images=images, recipe=recipe, scale=scale, gates=gate or (),
        strict=strict, out=out, seed=seed, budget=budget, strict_ends=strict_ends,
        weight_storage=weight_storage, device=device, target=target,
        keep_float=keep_float or (), bits_for=bits_for or (),
        measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
    )  # fmt: skip
    from dfqonnx.workflows.preflight import check_paths

    check_paths(spec)  # before torch is imported: a wrong path is an error at once
    if dry_run:
        return _run_dry(spec, quiet=quiet, as_json=as_json)
    return _run(spec, quiet=quiet, as_json=as_json)


def _run(spec: RunConfig, *, quiet: bool, as_json: bool) -> int:
    from dfqonnx.workflows.run import run as run_workflow

    with display(quiet=quiet, as_json=as_json) as progress:
        report = run_workflow(spec, progress=progress)
    show_report(report, _next_steps(report, spec.out), quiet=quiet, as_json=as_json)
    report_to_ci(report, spec.out)
    return report.exit_code


def _run_dry(spec: RunConfig, *, quiet: bool, as_json: bool) -> int:
    from dfqonnx.cli.inspect import show_inspection
    from dfqonnx.workflows.inspect import dry_run

    with display(quiet=quiet, as_json=as_json) as progress:
        inspection = dry_run(spec, progress=progress)
    code = show_inspection(inspection, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        print_text(f"This was a dry run, and nothing was written. A run would write {spec.out}/.")
    return code


def _next_steps(report: Report, folder: Path) -> list[str]:
    """Return what was written, where, and what to do next."""
    student = shlex.quote(str(folder / report.student.path))
    teacher = shlex.quote(report.teacher.path)
    where = f"{len(report.files)} files in {shlex.quote(str(folder))}/; start with report.html"
    next_step = (
        f"Next: dfqonnx validate --teacher {teacher} --student {student} --eval-data YOUR_IMAGES"
        if report.student.top1 is None
        else "Next: load it with onnxruntime.InferenceSession, as you load the float file."
    )
    return [f"Wrote {student} ({where}).", next_step]
