"""Many runs' report.json into one page.

    python pipelines/results.py RUNS... > pipelines/RESULTS.md

Folders are searched for report.json. Runs that differ in nothing but the seed share a row: mean,
and least to most. Of two runs with the same seed the one found last counts.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DASH = "-"
HEAD = """# Results

Made by `python pipelines/results.py RUNS...` from the reports of runs; edit nothing by hand.

| column | what |
| --- | --- |
| drop | the float model's top-1 minus the quantized one's, in points; mean over seeds (least .. most) |
| untrained | the same drop before the first training step, mean over seeds; it is the drop where training was given up |
| n | labelled images that it was measured on; no run used them for anything else |
| ends | weight bits of the first and last layer |
| stream | bits of the residual stream, the network's input and the classifier's input |
| budget | what `--budget` asked for; without one the default's own length |
| images seen | training steps times images a step: as drawn, or as the recipe asks where an older report does not say (large networks draw fewer) |
| divergence | of the synthetic images from what BatchNormalization remembers of the training data, in nats, mean over layers (`dfqonnx similarity`); 0 is the training data |
| seconds, peak MiB | of the whole run; mean over seeds |
"""  # noqa: E501 (rows of a table)
COLUMNS = (
    "recipe", "scale", "budget", "bits", "ends", "stream", "drop", "untrained", "seeds", "n",
    "steps", "images seen", "divergence", "seconds", "peak MiB", "machine",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What tells one row of the table from another."""

    model: str
    recipe: str
    scale: str
    bits: str
    ends: str
    stream: str
    machine: str
    budget: str = DASH


@dataclass(frozen=True)
class Run:
    """One report; unknown values are None."""

    row: Row
    seed: int
    teacher: float | None
    drop: float | None
    untrained: float | None
    n: int | None
    steps: int | None
    seen: int | None
    divergence: float | None
    seconds: float | None
    memory: float | None


def read(path: Path) -> Run:
    """Read one report.json, and the recipe.yaml beside it."""
    report = json.loads(path.read_text(encoding="utf-8"))
    recipe = _recipe(path.with_name("recipe.yaml"))
    bits = report.get("bits") or {}
    ends, stream = bits.get("ends"), bits.get("stream")
    machine = report.get("environment") or {}
    training = report.get("training") or {}
    steps = training.get("steps")
    batch = (recipe.get("distill") or {}).get("batch")
    seen = training.get("images_seen")
    if seen is None and steps is not None and batch is not None:
        seen = steps * batch
    row = Row(
        model=Path(_at(report, "teacher", "path") or "?").stem,
        recipe=recipe.get("name") or report.get("recipe") or DASH,
        scale=report.get("scale") or recipe.get("scale") or DASH,
        bits=f"W{bits['weights']}A{bits['activations']}" if bits else DASH,
        ends=("like the others" if ends is None else str(ends)) if bits else DASH,
        stream=str(_at(bits, "residual") or stream or DASH),
        machine=_machine(machine),
        budget=_option(report.get("command") or "", "--budget"),
    )
    return Run(
        row=row,
        seed=report.get("seed") or 0,
        teacher=_at(report, "teacher", "top1", "value"),
        drop=_at(report, "drop_points", "value"),
        untrained=_untrained(report),
        n=_at(report, "drop_points", "n"),
        steps=steps,
        seen=seen,
        divergence=_at(report, "images", "divergence"),
        seconds=_at(report, "seconds", "total"),
        memory=report.get("peak_rss_mb"),
    )


def find(places: Sequence[Path]) -> list[Path]:
    """Return every report.json at or below the places.

    Raises:
        SystemExit: there is none below one of them.
    """
    found: list[Path] = []
    for place in places:
        here = [place] if place.is_file() else sorted(place.rglob("report.json"))
        if not here:
            raise SystemExit(f"{place}: no report.json at or below it")
        found += here
    return found


def table(runs: Iterable[Run]) -> str:
    """Return the Markdown page."""
    grouped: dict[Row, dict[int, Run]] = {}
    for run in runs:
        grouped.setdefault(run.row, {})[run.seed] = run
    machines = sorted({row.machine for row in grouped})
    letters = dict(zip(machines, string.ascii_lowercase, strict=False))
    parts = [HEAD]
    for model in sorted({row.model for row in grouped}):
        rows = {row: list(seeds.values()) for row, seeds in grouped.items() if row.model == model}
        teacher = _mean(run.teacher for group in rows.values() for run in group)
        title = f"## {model}" + ("" if teacher is None else f" ({teacher:.2f} % in float)")
        parts += [f"\n{title}\n\n", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
        for row in sorted(rows, key=_order):
            parts.append(_line(_cells(row, rows[row], letters)))
    parts.append("\n## Machines\n\n")
    parts += [f"- {letters.get(machine, '?')}: {machine}\n" for machine in machines]
    return "".join(parts)


def _cells(row: Row, runs: list[Run], letters: dict[str, str]) -> list[str]:
    drops = [run.drop for run in runs if run.drop is not None]
    drop = DASH
    if drops:
        drop = f"{statistics.fmean(drops):.2f}"
        drop += f" ({min(drops):.2f} .. {max(drops):.2f})" if len(drops) > 1 else ""
    return [
        row.recipe, row.scale, row.budget, row.bits, row.ends, row.stream, drop,
        _figure((run.untrained for run in runs), ".2f"), str(len(runs)),
        _figure((run.n for run in runs), ",.0f"),
        _figure((run.steps for run in runs), ",.0f"),
        _figure((run.seen for run in runs), ",.0f"),
        _figure((run.divergence for run in runs), ".4f"),
        _figure((run.seconds for run in runs), ",.0f"),
        _figure((run.memory for run in runs), ",.0f"),
        letters.get(row.machine, "?"),
    ]  # fmt: skip


def _order(row: Row) -> tuple[Any, ...]:
    """Fewest bits last; within a width and a convention `default` first, then by name."""
    return (
        *_widths(row),
        row.ends.isdigit(),
        row.recipe != "default",
        row.recipe,
        row.scale,
        row.budget != DASH,
        len(row.budget),
        row.budget,
        row.machine,
    )


def _widths(row: Row) -> tuple[int, int]:
    weights, _, activations = row.bits.removeprefix("W").partition("A")
    if not (weights.isdigit() and activations.isdigit()):
        return (0, 0)
    return (-int(weights), -int(activations))


def _figure(values: Iterable[float | None], form: str) -> str:
    mean = _mean(values)
    return DASH if mean is None else format(mean, form)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _untrained(report: dict[str, Any]) -> float | None:
    """Return the drop before training; None where nothing was trained or nobody measured it."""
    if not _at(report, "training", "steps"):
        return None
    if not _at(report, "training", "kept"):
        found = _at(report, "drop_points", "value")
        return found if isinstance(found, float) else None
    teacher = _at(report, "teacher", "top1", "value")
    before = _at(report, "training", "untrained_top1", "value")
    return None if teacher is None or before is None else teacher - before


def _machine(environment: dict[str, Any]) -> str:
    processor, cores = environment.get("processor"), environment.get("cores")
    device = environment.get("device")
    words = [processor or "unknown", f"{cores} cores" if cores else "", device or ""]
    return ", ".join(word for word in words if word)


def _option(command: str, name: str) -> str:
    """Return the value of an option of a command line; a dash where it was not given."""
    words = shlex.split(command)
    return words[words.index(name) + 1] if name in words[:-1] else DASH


def _recipe(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _at(content: dict[str, Any], *keys: str) -> Any:
    """Return what lies under nested keys; None where one is missing."""
    found: Any = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="output folders, or folders of them")
    sys.stdout.write(table(map(read, find(parser.parse_args().runs))))
