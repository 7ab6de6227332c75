"""Reports of runs, read for tables: what distinguishes a row, and the figures of a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dfqonnx.config.effort import EFFORTS
from dfqonnx.report.report import SCHEMA

DASH = "-"


@dataclass(frozen=True)
class Row:
    """What distinguishes one row of the table from another; `device` is a GPU, or a dash.

    `budget` is what decided how long a run took: `120s`, `effort high`, or a dash.
    """

    model: str
    recipe: str
    scale: str
    bits: str
    first_last: str
    residual: str
    device: str = DASH
    budget: str = DASH

    @property
    def order(self) -> tuple[Any, ...]:
        """Fewest bits last; within a width and a convention `default` first, then by name."""
        return (
            *_widths(self.bits),
            self.first_last.isdigit(),
            self.recipe != "default",
            self.recipe,
            self.scale,
            self.budget != DASH,
            len(self.budget),
            self.budget,
            self.device,
        )


@dataclass(frozen=True)
class Run:
    """One report; unknown values are None."""

    row: Row
    seed: int
    machine: str
    teacher_top1: float | None
    drop: float | None
    untrained: float | None
    n: int | None
    steps: int | None
    images_seen: int | None
    divergence: float | None
    seconds: float | None
    memory_mib: float | None


def read(path: Path) -> Run:
    """Read one report.json, and the recipe.yaml beside it.

    Raises:
        SystemExit: it is no report of a run.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path}: no report of a run: {error}") from None
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: no report of a run: its schema is not {SCHEMA}")
    recipe = _recipe(path.with_name("recipe.yaml"))
    bits = report.get("bits") or {}
    first_last = bits.get("first_last")
    machine = report.get("environment") or {}
    training = report.get("training") or {}
    row = Row(
        model=Path(_at(report, "teacher", "path") or "?").stem,
        recipe=recipe.get("name") or report.get("recipe") or DASH,
        scale=report.get("scale") or recipe.get("scale") or DASH,
        bits=f"W{bits['weights']}A{bits['activations']}" if bits else DASH,
        first_last=("like the others" if first_last is None else str(first_last)) if bits else DASH,
        residual=str(bits.get("residual") or DASH),
        device=machine.get("device") or DASH,
        budget=_effort(recipe) or _option(report.get("command") or "", "--budget"),
    )
    return Run(
        row=row,
        seed=report.get("seed") or 0,
        machine=_machine(machine),
        teacher_top1=_at(report, "teacher", "top1", "value"),
        drop=_at(report, "drop", "points", "value"),
        untrained=_untrained(report),
        n=_at(report, "drop", "points", "n"),
        steps=training.get("steps"),
        images_seen=training.get("images_seen"),
        divergence=_at(report, "images", "divergence"),
        seconds=_at(report, "seconds", "total"),
        memory_mib=report.get("peak_memory_mib"),
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


def _widths(bits: str) -> tuple[int, int]:
    weights, _, activations = bits.removeprefix("W").partition("A")
    if not (weights.isdigit() and activations.isdigit()):
        return (0, 0)
    return (-int(weights), -int(activations))


def _untrained(report: dict[str, Any]) -> float | None:
    """Return the drop before training; None where nothing was trained or nobody measured it."""
    if not _at(report, "training", "steps"):
        return None
    if not _at(report, "training", "kept"):
        found = _at(report, "drop", "points", "value")
        return found if isinstance(found, float) else None
    teacher = _at(report, "teacher", "top1", "value")
    before = _at(report, "training", "untrained_top1", "value")
    return None if teacher is None or before is None else teacher - before


def _machine(environment: dict[str, Any]) -> str:
    processor, cores = environment.get("processor"), environment.get("cores")
    device = environment.get("device")
    words = [processor or "unknown", f"{cores} cores" if cores else "", device or ""]
    return ", ".join(word for word in words if word)


def _effort(recipe: dict[str, Any]) -> str:
    """Return the effort whose work a recipe has, which is all that a run writes of it."""
    images, training = (
        _at(recipe, part, "budget_scale") or 1.0 for part in ("synthesis", "distillation")
    )
    for name, factors in EFFORTS.items():
        if name != "default" and (images, training) == (factors.images, factors.training):
            return f"effort {name}"
    return ""


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
