"""Figures and rows of a Markdown page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from tables.runs import DASH


def figure(values: Iterable[float | None], form: str) -> str:
    """Return the mean of what is known; a dash where nothing is."""
    found = mean(values)
    return DASH if found is None else format(found, form)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def line(cells: Iterable[str]) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
