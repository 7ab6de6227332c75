"""`dfqonnx run`: quantizes a model and measures the result."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfqonnx.cli import options as o
from dfqonnx.cli.failures import Interruption, notes_of
from dfqonnx.cli.report import report_to_ci, show_report
from dfqonnx.cli.show import announce, display, print_json, print_text
from dfqonnx.config.target_widths import advise_widths
from dfqonnx.core.ranks import read_place
from dfqonnx.core.replace_folder import MARKER
from dfqonnx.core.run_outline import STAGES, describe_seconds, describe_together
from dfqonnx.errors import UnsupportedModel
from dfqonnx.targets.profile import TARGETS

if TYPE_CHECKING:
    from dfqonnx.checkpoint.cache import CacheUse
    from dfqonnx.config.commands import RunConfig
    from dfqonnx.report.report import Report


def run(
    file: o.ModelFile = None,
    model: o.Model = None,
    bits: o.BitsText = "4",
    preprocess: o.Preprocess = None,
    image_size: o.ImageSize = None, inputs: o.Inputs = None,
    eval_data: o.EvalData = None, images: o.RealImages = None, classes: o.Classes = None,
    metric: o.Metric = None, head: o.Head = None,
    fit: o.FitText = None, pixel_range: o.PixelRangeText = None,
    recipe: o.Recipe = "default",
    scale: o.Scale = None,
    budget: o.Budget = None,
    effort: o.Effort = "default",
    memory: o.Memory = None,
    out: o.RunOut = None,
    calibrate_with: o.CalibrateWith = None,
    strict_ends: o.StrictEnds = None,
    keep_float: o.KeepFloat = None,
    bits_for: o.BitsFor = None,
    max_drop: o.MaxDrop = None, max_size: o.MaxSize = None, min_speed: o.MinSpeed = None,
    weight_storage: o.WeightStorage = "auto",
    seed: o.Seed = 0,
    device: o.Device = "auto",
    target: o.Target = o.DEFAULT_TARGET,
    gate: o.Gates = None,
    strict: o.Strict = False,
    fresh: o.Fresh = False,
    no_cache: o.NoCache = False,
    dry_run: o.DryRun = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:  # fmt: skip
    """Quantize a model: synthesize, distill, export, evaluate. Ends with 1 if a gate fails."""
    from dfqonnx.config.measuring import read_measuring
    from dfqonnx.config.request import read_targets, run_request
    from dfqonnx.config.search_limits import read_limits

    names = read_targets(target)
    path = o.choose_model(file, model, "run MODEL.onnx --bits 4")
    spec = run_request(
        path, bits, preprocess=preprocess, image_size=image_size, eval_data=eval_data,
        inputs=inputs or (), images=images, recipe=recipe, scale=scale, gates=gate or (),
        strict=strict, out=out, seed=seed, budget=budget, effort=effort, memory=memory,
        strict_ends=strict_ends, weight_storage=weight_storage, device=device, target=names[0],
        keep_float=keep_float or (), bits_for=bits_for or (), calibrate_with=calibrate_with,
        limits=read_limits(bits, max_drop, max_size, min_speed),
        measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
    )  # fmt: skip
    from dfqonnx.checkpoint.cache import CacheUse

    use = None if dry_run else CacheUse(enabled=not no_cache, fresh=fresh)
    return _run_staged(spec, names, use, verbose=verbose, quiet=quiet, as_json=as_json)


def _run_staged(
    spec: RunConfig,
    names: Sequence[str],
    cache: CacheUse | None,
    *,
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Fetch what URLs name, run for every target and publish; without a cache, only tell."""
    from dfqonnx.config.request import split_by_target
    from dfqonnx.workflows.preflight import check_paths
    from dfqonnx.workflows.staged_files import stage

    if is_helper():
        quiet, as_json = True, False
    publishes = cache is not None and not is_helper()
    with stage(spec, publishes=publishes) as (local, staged):
        specs = split_by_target(local, names)
        for each in specs:
            check_paths(each)  # before torch is imported: a wrong path is an error at once
        announce([] if quiet or as_json else map(staged.name, describe_runs(specs)))
        if cache is None and is_helper():
            return 0
        if cache is None:
            return _run_dry(specs, quiet=quiet, as_json=as_json)
        reports = _run(specs, cache, quiet=quiet, as_json=as_json)
    if is_helper():
        return 0
    shown = [staged.name_report(report) for report in reports]
    return _show(shown, specs, staged.name, verbose=verbose, quiet=quiet, as_json=as_json)


def _run(
    specs: Sequence[RunConfig], cache: CacheUse, *, quiet: bool, as_json: bool
) -> tuple[Report, ...]:
    from dfqonnx.workflows.run import run_targets

    try:
        with display(quiet=quiet, as_json=as_json) as progress:
            return run_targets(specs, progress=progress, cache=cache)
    except KeyboardInterrupt as stop:
        kept = map(_say_what_is_kept, specs)
        raise Interruption("; ".join([*kept, *notes_of(stop)])) from None


def _show(
    reports: Sequence[Report],
    specs: Sequence[RunConfig],
    name: Callable[[str], str],
    *,
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Show what was found; `name` puts URLs in the place of copies on this machine."""
    several = len(specs) > 1
    if several and as_json:
        print_json([json.loads(report.to_json()) for report in reports])
    for report, spec in zip(reports, specs, strict=True):
        if several and not (quiet or as_json):
            print_text(f"For {spec.target}:")
        notes = [] if several else [name(line) for line in _next_steps(report, spec)]
        if not (several and as_json):
            show_report(report, notes, quiet=quiet, as_json=as_json, short=not verbose)
        report_to_ci(report, spec.out)
    if several and not (quiet or as_json):
        for report, spec in zip(reports, specs, strict=True):
            print_text(f"{spec.target}: {name(_next_steps(report, spec)[0])}")
    return max(report.exit_code for report in reports)


def is_helper() -> bool:
    """Return whether this process helps another one, which shows and writes what is found."""
    place = read_place()
    return place is not None and place.rank > 0


def _run_dry(specs: Sequence[RunConfig], *, quiet: bool, as_json: bool) -> int:
    from dfqonnx.cli.inspect import show_inspection
    from dfqonnx.workflows.inspect import dry_run_targets

    with display(quiet=quiet, as_json=as_json) as progress:
        inspections = dry_run_targets(specs, progress=progress)
    if as_json and len(specs) > 1:
        print_json([dataclasses.asdict(inspection) for inspection in inspections])
        refused = any(inspection.refusals for inspection in inspections)
        return UnsupportedModel.exit_code if refused else 0
    code = 0
    for inspection, spec in zip(inspections, specs, strict=True):
        found = show_inspection(inspection, layers=False, quiet=quiet, as_json=as_json)
        code = max(code, found)
        if not (quiet or as_json):
            print_text(str(inspection.outline))
            said = "This was a dry run, and nothing was written."
            print_text(f"{said} A run would write {spec.out}/.")
    told = [each.outline for each in inspections if each.outline is not None]
    if len(told) > 1 and not (quiet or as_json):
        print_text(describe_together(told))
    return code


def describe_runs(specs: Sequence[RunConfig]) -> list[str]:
    """Return what is known of a run for one or several targets at once, before anything slow."""
    lines = describe_run(specs[0])
    if len(specs) > 1:
        names = ", ".join(spec.target for spec in specs)
        lines[0] = lines[0].replace(f"for {specs[0].target}.", f"for {names}.")
        for spec in specs[1:]:
            lines += _describe_target(spec)
    return lines


def describe_run(spec: RunConfig) -> list[str]:
    """Return what is known of a run at once, before anything is loaded."""
    size = spec.model.stat().st_size / 1e6 if spec.model.is_file() else 0.0
    stages = dict(STAGES)
    if spec.recipe.distillation.steps == 0:
        del stages["distill"]
    words = ", ".join(f"{name} ({about})" for name, about in stages.items())
    fed = "as the file says, else guessed" if spec.preprocess is None else spec.preprocess.name
    limit = "" if spec.budget is None else f", at most {describe_seconds(spec.budget)}"
    limit += "" if spec.effort == "default" else f", {spec.effort} effort"
    lines = [
        f"Quantizing {spec.model} ({size:.1f} MB) {_describe_widths(spec)}, for {spec.target}.",
        f"Recipe {spec.recipe.title}{limit}; device {spec.device}; preprocessing {fed};"
        f" {_describe_data(spec)}.",
        f"Stages: {words}.",
    ]
    return [*lines, *_describe_target(spec)]


def _describe_widths(spec: RunConfig) -> str:
    bits = spec.quant.bits
    if spec.search is not None:
        return f"to widths that are looked for ({spec.search.limits.text})"
    return f"to {bits.label}: weights of {bits.weights} bits, activations of {bits.activations}"


def _describe_target(spec: RunConfig) -> Iterator[str]:
    yield from advise_widths(TARGETS[spec.target], spec.quant, spec.nodes)
    old = find_old_result(spec.out)
    if old:
        yield f"{spec.out}/ holds {old}; it is replaced when the new result is complete."


def _describe_data(spec: RunConfig) -> str:
    given = [("measured on", spec.eval_data), ("and on", spec.images)]
    known = [f"{words} {path}" for words, path in given if path is not None]
    measured = " ".join(known).removeprefix("and ")
    if spec.calibrate_with is not None:
        work = f"images of {spec.calibrate_with} join the synthetic ones"
        return f"{work}; {measured}" if measured else work
    return measured or "no data: images are synthesized"


def find_old_result(out: Path) -> str:
    """Return what a folder holds in words; empty where there is no result of an earlier run."""
    report = out / MARKER
    if not report.is_file():
        return ""
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.stat().st_mtime))
    return f"the result of {made}"


def _say_what_is_kept(spec: RunConfig) -> str:
    old = find_old_result(spec.out)
    kept = f"; {spec.out}/ still holds {old}" if old else ""
    return f"interrupted; no partial file is left{kept}"


def _next_steps(report: Report, spec: RunConfig) -> list[str]:
    """Return what was written, where, and what to do next."""
    folder = spec.out
    student = shlex.quote(str(spec.file or folder / report.student.path))
    teacher = shlex.quote(report.teacher.path)
    where = f"{len(report.files)} files in {shlex.quote(str(folder))}/; start with report.html"
    next_step = (
        f"Next: dfqonnx validate --teacher {teacher} --student {student} --eval-data YOUR_IMAGES"
        if report.student.top1 is None
        else "Next: load it with onnxruntime.InferenceSession, as you load the float file."
    )
    return [f"Wrote {student} ({where}).", next_step]
