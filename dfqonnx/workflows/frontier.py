"""`dfqonnx frontier`: students of uniform and of mixed widths, foretold or made, side by side.

one sensitivity analysis -> a search for each size -> files with untrained numbers -> page
                                                   -> or runs, all on the same images
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.frontier_points import FrontierConfig
from dfqonnx.config.request import command_of
from dfqonnx.core.bit_choice import BitChoice, StudentForecast
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import BitWidths
from dfqonnx.report.frontier_data import Frontier, FrontierPoint
from dfqonnx.report.html.frontier_page import write_frontier
from dfqonnx.report.measure_lines import main_measure
from dfqonnx.report.report import Report
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.choose_widths import MeasuredNetwork, choose_widths, measure_for_search
from dfqonnx.workflows.preflight import preflight
from dfqonnx.workflows.run import run_targets
from dfqonnx.workflows.teacher import Teacher, choose_device, open_teacher
from dfqonnx.workflows.untrained_files import UntrainedFiles

OWN_RECIPE = " --recipe recipe.yaml"  # which a run writes, and a forecast does not
STUDENTS = "students"  # the folder of those that are made


@dataclass(frozen=True)
class _Candidate:
    """A student before it is made: its run, and what is expected of it."""

    config: RunConfig
    forecast: StudentForecast
    widths: str
    is_mixed: bool


def draw_frontier(config: FrontierConfig, *, progress: Progress | None = None) -> Frontier:
    """Return the frontier of a network, and write it as a page and as JSON into `config.run.out`.

    Raises:
        UsageError, UnsupportedModel, EnvironmentProblem: as for a run.
    """
    run, shown = config.run, progress or SilentProgress()
    preflight(run)
    context = RunContext(seed=run.seed, device=choose_device(run.device), progress=shown)
    teacher = open_teacher(run, context)
    measured = measure_for_search(run, teacher, context)
    candidates = sorted(
        _list_candidates(config, teacher, measured, context),
        key=lambda each: each.forecast.bytes,
    )
    if config.makes_students:
        reports: Sequence[Report | None] = run_targets(
            [each.config for each in candidates], progress=progress
        )
    else:
        reports = [None] * len(candidates)
    points = tuple(_point(each, report) for each, report in zip(candidates, reports, strict=True))
    frontier = Frontier(
        model=str(run.model),
        target=run.target,
        bytes=teacher.model.source.bytes,
        points=points,
        unit=_name_unit(points),
        images=measured.sensitivity.images,
    )
    write_frontier(frontier, run.out)
    return frontier


def _list_candidates(
    config: FrontierConfig, teacher: Teacher, measured: MeasuredNetwork, context: RunContext
) -> Iterator[_Candidate]:
    """Yield uniform students, and mixed ones between each two of them."""
    run, students = config.run, config.run.out / STUDENTS
    anything = config.limited_to(_size_of(run, teacher, measured), run.out)
    smallest = choose_widths(anything, teacher, context, measured=measured).choice
    uniform = sorted(smallest.uniform, key=lambda each: each.bytes)
    with tempfile.TemporaryDirectory(prefix="dfqonnx-frontier-") as folder:
        files = UntrainedFiles(config=run, teacher=teacher, folder=Path(folder))
        sizes = []
        for forecast in uniform:
            bits = BitWidths.parse(forecast.name)
            own = replace(
                run,
                quant=replace(run.quant, bits=bits),
                search=None,
                out=students / forecast.name,
            )
            path = files.write(files.place(bits, own.nodes), own)
            sizes.append(files.size(path))
            found = replace(forecast, bytes=sizes[-1], speed=_speed(files, path, run))
            yield _Candidate(own, found, forecast.name, is_mixed=False)
        for small, large in pairwise(sizes):
            for size in config.sizes_between(small, large):
                out = students / f"mixed-{size}"
                chosen = choose_widths(
                    config.limited_to(size, out), teacher, context, measured=measured
                )
                search = chosen.config.search
                assert search is not None
                mixed = replace(chosen.config, search=replace(search, choice=chosen.choice))
                path = files.write(files.place(mixed.quant.bits, mixed.nodes), mixed)
                found = replace(chosen.choice.chosen, speed=_speed(files, path, run))
                yield _Candidate(mixed, found, _count_widths(chosen.choice), is_mixed=True)


def _size_of(run: RunConfig, teacher: Teacher, measured: MeasuredNetwork) -> int:
    """Return bytes that the smallest uniform student surely has room in."""
    with tempfile.TemporaryDirectory(prefix="dfqonnx-frontier-") as folder:
        files = UntrainedFiles(config=run, teacher=teacher, folder=Path(folder))
        return 2 * files.size(files.write(measured.narrow, run))


def _speed(files: UntrainedFiles, path: Path, run: RunConfig) -> float | None:
    """Return the speed of a file; None where ONNX Runtime's CPU says nothing of the target."""
    return files.speed(path) if TARGETS[run.target].on_onnxruntime_cpu else None


def _count_widths(choice: BitChoice) -> str:
    counts = Counter(node.widths for node in choice.nodes)
    return ", ".join(f"{number} x {widths}" for widths, number in counts.most_common())


def _point(candidate: _Candidate, report: Report | None) -> FrontierPoint:
    point = FrontierPoint(
        forecast=candidate.forecast,
        is_mixed=candidate.is_mixed,
        widths=candidate.widths,
        command=command_of(candidate.config).replace(OWN_RECIPE, ""),
    )
    if report is None:
        return point
    forecast = replace(
        candidate.forecast,
        bytes=report.student.bytes or candidate.forecast.bytes,
        speed=candidate.forecast.speed if report.latency is None else report.latency.speedup,
    )
    drop, measure = _measured(report)
    estimate = report.estimated_drop
    return replace(
        point,
        forecast=forecast,
        estimated_drop=None if estimate is None else estimate.value,
        measured=drop,
        measure=measure,
    )


def _measured(report: Report) -> tuple[float | None, str]:
    """Return what a student lost on labeled data, and by which measure."""
    if report.drop is not None:
        return report.drop.points.value, "points of top-1"
    main = main_measure([m for m in report.measures if m.truth == "labels"])
    return (None, "") if main is None else (main.drop, main.name)


def _name_unit(points: Sequence[FrontierPoint]) -> str:
    """Return what losses are counted in."""
    first = points[0]
    if first.measured is not None:
        return f"measured drop, {first.measure}"
    if first.estimated_drop is not None:
        return "estimated drop, points of top-1"
    if first.forecast.drop is not None:
        return "drop foretold, points of top-1"
    return "noise over signal, foretold"
