"""What a search for bit widths chose, in lines for the terminal and for `report.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dfqonnx.core.bit_choice import BitChoice, NodeChoice, StudentForecast
from dfqonnx.foreign_text import MAX_LINE, printable

MOST_ROWS = 40  # of layers that a terminal is shown
NAME = 44  # characters of a node's name


def describe_choice(choice: BitChoice, *, of: int) -> Iterator[str]:
    """Yield the lines of a choice; `of` are the bytes of the float file."""
    counts = Counter(node.widths for node in choice.nodes)
    words = ", ".join(f"{number} x {widths}" for widths, number in counts.most_common())
    yield f"Widths for {choice.limits}: {words}."
    for forecast in (*choice.uniform, choice.chosen):
        yield f"  {_tell(forecast, of)}"
    rows = choice_rows(choice)
    for row in rows[:MOST_ROWS]:
        yield "  " + row
    if len(rows) > MOST_ROWS:
        yield f"  and {len(rows) - MOST_ROWS} more, which the report lists"


def choice_rows(choice: BitChoice) -> list[str]:
    """Return a line a node, those that differ from the most frequent widths first."""
    if not choice.nodes:
        return []
    usual = Counter(node.widths for node in choice.nodes).most_common(1)[0][0]
    ordered = sorted(choice.nodes, key=lambda node: node.widths == usual)
    return [_row(node) for node in ordered]


def _row(node: NodeChoice) -> str:
    name = printable(node.node)
    shown = name if len(name) <= NAME else "..." + name[3 - NAME :]
    return printable(f"{node.widths:<6} {shown:<{NAME}} {node.reason}", most=MAX_LINE)


def _tell(forecast: StudentForecast, of: int) -> str:
    drop = "" if forecast.drop is None else f", drop {forecast.drop:.2f} points at most"
    speed = "" if forecast.speed is None else f", {forecast.speed:.2f} times the float speed"
    return (
        f"{forecast.name:<6} {forecast.bytes / 1024:9.1f} KiB ({forecast.bytes / of:.3f}x),"
        f" noise {forecast.noise:.2g} before training{drop}{speed}"
    )
