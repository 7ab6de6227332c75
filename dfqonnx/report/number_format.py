"""Numbers and lists as readers see them: the table, `report.md`, the pages and the gates agree."""

from __future__ import annotations

from collections.abc import Sequence

from dfqonnx.evaluation.statistics import Interval


def to_percent(share: Interval) -> Interval:
    """Return an interval of shares, 0..1, in percent."""
    return Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)


def format_bounds(found: Interval, images: str = "") -> str:
    """Return `0.40 to 1.00, n = 10,000`; `images` says which ones n counts."""
    return f"{found.low:.2f} to {found.high:.2f}, n = {found.n:,}{images and f' {images}'}"


def format_interval(found: Interval, unit: str, images: str = "") -> str:
    """Return `0.70 points (95 %: 0.40 to 1.00, n = 10,000)`."""
    return f"{found.value:.2f} {unit} (95 %: {format_bounds(found, images)})"


def format_size(size: int) -> str:
    """Return a number of bytes in KiB, a large one in MiB."""
    return f"{size / 1024:,.0f} KiB" if size < 10 * 2**20 else f"{size / 2**20:,.1f} MiB"


def format_decibels(value: float | None) -> str:
    """Return `16.4 dB`; an empty text where the value is unknown or infinite."""
    return "" if value is None else f"{value:.1f} dB"


def format_count(count: int, noun: str) -> str:
    """Return `1 thread` or `2 threads`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_names(names: Sequence[str]) -> str:
    """Return the first three names, and dots where there are more."""
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)
