"""Which of several students is best, in sentences, and whose interval overlaps with its own.

The column that says most (a task's measure, top-1, agreement or SQNR) decides. Students whose 95 %
interval meets that of the best may be as good: on these inputs the two cannot be told apart by
their intervals, which says less than a paired test would, and never too much.
"""

from __future__ import annotations

from collections.abc import Iterator

from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.comparison import ComparisonRow, ComparisonTable
from dfqonnx.report.number_format import to_percent

SAME_SIZE = 0.01  # of the float file: smaller differences are none that a user has


def known_interval(table: ComparisonTable, label: str, column: str) -> Interval | None:
    """Return the 95 % interval of a row's number in its unit; None where none is known."""
    if label == "F":
        return table.teacher.top1 if column == "top-1" else None
    student = table.students[int(label) - 1]
    report, measure = student.report, student.measure
    if report is None:
        return None
    if measure is not None and measure.name == column:
        return measure.interval
    if column == "top-1":
        return report.student.top1
    share = report.agreement.best_known if column == "agreement" else None
    return None if share is None else to_percent(share)


def describe_best(table: ComparisonTable) -> Iterator[str]:
    """Yield the best by the charted column with those that may be as good, and the smallest.

    Nothing where fewer than two students can be compared.
    """
    column = table.charted
    students = [row for row in table.rows if row.label != "F"]
    known = [row for row in students if column is not None and column in row.numbers]
    if column is not None and len(known) > 1:
        yield _describe_column(table, known, column)
    sized = [row for row in students if "size" in row.numbers]
    if len(sized) > 1:
        least = min(row.numbers["size"] for row in sized)
        smallest = [row for row in sized if row.numbers["size"] <= least + SAME_SIZE]
        words = "Smallest are" if len(smallest) > 1 else "Smallest is"
        yield f"{words} {_names(smallest)} ({least:.2f} times the float file)."


def _describe_column(table: ComparisonTable, known: list[ComparisonRow], column: str) -> str:
    lower = column in table.measures and not table.measures[column].higher_is_better
    ordered = sorted(known, key=lambda row: row.numbers[column], reverse=not lower)
    best, *others = ordered
    equal = [row for row in others if row.numbers[column] == best.numbers[column]]
    head = f"Best by {column}: {_names([best, *equal])} ({best.cells[column].partition(' (')[0]})."
    rest = [row for row in others if row not in equal]
    own = known_interval(table, best.label, column)
    if own is None:
        return f"{head} Nothing says how far such a difference is chance."
    unknown = [row for row in rest if known_interval(table, row.label, column) is None]
    near = [row for row in rest if _meet(own, known_interval(table, row.label, column))]
    if near:
        head += (
            f" Its 95 % interval overlaps with that of {_names(near)}: on {own.n:,} inputs they"
            " cannot be told apart."
        )
    elif rest and not unknown:
        head += " Its 95 % interval overlaps with that of no other."
    return head


def _meet(first: Interval, second: Interval | None) -> bool:
    return second is not None and first.low <= second.high and second.low <= first.high


def _names(rows: list[ComparisonRow]) -> str:
    """Return the names of rows, as in a sentence."""
    *front, last = (row.name for row in rows)
    return f"{', '.join(front)} and {last}" if front else last
