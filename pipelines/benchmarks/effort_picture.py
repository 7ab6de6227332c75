"""What a longer run buys: points of top-1 lost over seconds, drawn for the README.

    python pipelines/benchmarks/effort_picture.py

Takes the runs of one network in `pipelines/results/measured.jsonl` without training (`ptq`) and by
default at every effort and budget, as `measure.py` and `results.py` leave them there, and writes
`docs/images/effort.svg`: means over seeds, with a bar from the least to the most. Lines across are
what training with labels was published to lose. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from summary import LABELED
from tables.curves import Point, find_points
from tables.records import read_records, replace_text
from tables.runs import DASH, Row, Run

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "pipelines" / "results" / "measured.jsonl"
PICTURE = ROOT / "docs" / "images" / "effort.svg"
DEFAULT = Row("cifar10_resnet20_bn", "default", DASH, DASH, "like the others", "8")
WIDTHS = {"W4A4": "#2563a8", "W3A3": "#b3541e"}
TICKS = (15, 30, 60, 120, 240, 600, 1200)


def group(runs: Iterable[Run]) -> dict[Row, list[Run]]:
    """Return the runs of each row."""
    grouped: dict[Row, list[Run]] = {}
    for run in runs:
        grouped.setdefault(run.row, []).append(run)
    return grouped


def name_of(row: Row) -> str:
    """Return what a reader types to get a run of this row."""
    if row.budget != DASH:
        return f"--{row.budget}" if row.budget.startswith("effort") else f"--budget {row.budget}"
    return "default" if row.recipe == "default" else f"--recipe {row.recipe}"


def draw(curves: Sequence[tuple[str, list[Point]]]) -> str:
    """Return the picture, as SVG."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dfqonnx", "font.size": 11}):
        figure = Figure(figsize=(8.2, 4.4))
        ax = figure.add_axes((0.08, 0.13, 0.90, 0.79))
        for bits, points in curves:
            _draw_curve(ax, bits, points)
        seconds = [point.seconds for _, points in curves for point in points]
        ax.set_xscale("log")
        ax.set_xlim(0.6 * min(seconds), 1.6 * max(seconds))
        ax.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick > min(seconds)]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_ylim(0, 1.08 * max(point.drop for _, points in curves for point in points))
        ax.set_xlabel("seconds of a run on two cores, 10,000 labeled images measured at its end")
        ax.set_title("points of top-1 lost, ResNet-20 on CIFAR-10", loc="left", fontsize=11)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", linewidth=0.5, alpha=0.5)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing, facecolor="white")
    return out.getvalue()


def _draw_curve(ax: Axes, bits: str, points: Sequence[Point]) -> None:
    color = WIDTHS[bits]
    ax.plot([p.seconds for p in points], [p.drop for p in points], "-o", color=color, label=bits)
    for index, point in enumerate(points):
        drops = [run.drop for run in point.runs if run.drop is not None]
        ax.plot([point.seconds] * 2, [min(drops), max(drops)], color=color, linewidth=3, alpha=0.4)
        about = f"{name_of(point.row)} ({len(drops)})"
        ax.annotate(
            about, (point.seconds, min(drops) if index % 2 else max(drops)),
            xytext=(0, -14 if index % 2 else 5), textcoords="offset points",
            ha="center", fontsize=9, color=color,
        )  # fmt: skip
    ax.axhline(LABELED[bits], color=color, linewidth=1, linestyle=":")
    ax.annotate(
        f"PACT {bits}, trained with labels", (1, LABELED[bits]), xytext=(0, 3),
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", fontsize=9,
        color=color,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=Path, default=RECORDS, help="of runs, JSON lines")
    parser.add_argument("--into", type=Path, default=PICTURE, help="the picture to write")
    options = parser.parse_args()
    grouped = group(read_records(options.records))
    curves = [
        (bits, found)
        for bits in WIDTHS
        if (found := find_points(grouped, replace(DEFAULT, bits=bits)))
    ]
    if not curves:
        raise SystemExit(
            f"{options.records}: no run of {DEFAULT.model} with a drop; run measure.py first"
        )
    replace_text(options.into, draw(curves))
    print(f"wrote {options.into}: {', '.join(f'{bits} {len(ps)} points' for bits, ps in curves)}")


if __name__ == "__main__":
    main()
