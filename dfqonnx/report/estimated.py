"""The estimated drop in words: the same in the table, in `report.md` and on the page."""

from __future__ import annotations

from dfqonnx.estimate.instrument import Estimate
from dfqonnx.validate.accuracy import Drop


def told(found: Estimate) -> str:
    """Return the figure with its interval."""
    assert None not in {found.value, found.low, found.high}
    return f"{found.value:.2f} points (90 %: {found.low:.2f} to {found.high:.2f})"


def line(found: Estimate, drop: Drop | None) -> str:
    """Return all that fits a line.

    Args:
        found: the estimate.
        drop: as measured on labelled images; None without labels.
    """
    if found.value is None:
        return f"cannot tell: {found.reason}"
    words = f"{told(found)}, from {found.basis}"
    if found.reason:
        words += f"; {found.reason}"
    return words if drop is None else f"{words}; {against(found, drop)}"


def against(found: Estimate, drop: Drop) -> str:
    """Say how the estimate and the measured drop, with their intervals, stand to each other."""
    assert found.low is not None
    assert found.high is not None
    if found.low <= drop.points.value <= found.high:
        return "the measured drop lies inside"
    if drop.points.low <= found.high and found.low <= drop.points.high:
        return "the measured drop lies outside, their intervals overlap"
    return "the measured drop lies outside"


def standing(found: Estimate) -> str:
    """Say how far the instrument can be trusted; empty where it told nothing."""
    known = found.record
    if known is None:
        return ""
    return (
        f"On {known.students} students of {known.networks} networks, each network left out in turn,"
        f" {known.inside:.0%} of the true drops lay inside such intervals (rank correlation"
        f" {known.rank:.2f})."
    )
