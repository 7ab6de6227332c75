"""The files of a sweep: page, Markdown, JSON, Parquet and `junit.xml`.

`junit.xml` has a test case for each task: a failure where it is not complete, with its reason; and
one for each regression since an earlier sweep. It satisfies the same schemas as that of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from dfqonnx.foreign_text import markdown, workflow_data, workflow_property
from dfqonnx.report.html.sweep_page import render_sweep
from dfqonnx.report.junit import SuiteFacts, add_case, fail_case, finish_suite, start_suite
from dfqonnx.report.since import Change
from dfqonnx.report.sweep_result import SweepResult, SweepRow
from dfqonnx.report.sweep_table import has_pyarrow, write_parquet

PAGE, MARKDOWN, JUNIT = "sweep.html", "sweep.md", "junit.xml"
PARQUET, RESULT = "sweep.parquet", "sweep.json"
MOST_LINES = 200  # of tasks in Markdown, which a build server's summary shows
_SUITE = "dfqonnx.sweep"


def list_written() -> tuple[str, ...]:
    """Return the names of the files of a sweep, the result itself last."""
    table = (PARQUET,) if has_pyarrow() else ()
    return (PAGE, MARKDOWN, JUNIT, *table, RESULT)


def write_sweep(
    result: SweepResult, changes: Sequence[Change] | None, places: Mapping[str, Path]
) -> None:
    """Write every file of `list_written` to its place."""
    places[PAGE].write_text(render_sweep(result, changes), encoding="utf-8")
    places[MARKDOWN].write_text(format_sweep(result, changes), encoding="utf-8")
    places[JUNIT].write_text(format_sweep_junit(result, changes or ()), encoding="utf-8")
    if PARQUET in places:
        write_parquet(result, places[PARQUET])
    places[RESULT].write_text(result.to_json(), encoding="utf-8")


def format_sweep(result: SweepResult, changes: Sequence[Change] | None) -> str:
    """Return the sweep as Markdown: regressions first, then the fronts, then all tasks."""
    lines = [f"## Sweep {markdown(result.name)}", "", f"{result.describe_counts()}."]
    if changes is not None:
        worse = [change for change in changes if change.is_worse]
        lines += ["", f"Since the earlier sweep: {len(worse)} regressions."]
        lines += [f"- {markdown(str(change))}" for change in (*worse, *_told(changes))]
    fronts = {model: result.front(model, "bytes") for model in result.models}
    lines += ["", "| task | outcome | quality | KiB | speed | on the front of bytes |",
              "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += [_markdown_row(row, row.task in fronts[row.model]) for row in result.rows[:MOST_LINES]]
    if len(result.rows) > MOST_LINES:
        lines += ["", f"{len(result.rows) - MOST_LINES} more tasks are in {RESULT}."]
    return "\n".join(lines) + "\n"


def _told(changes: Sequence[Change]) -> Iterator[Change]:
    yield from (change for change in changes if not change.is_worse)


def _markdown_row(row: SweepRow, is_on_front: bool) -> str:
    main = row.main_quality
    quality = "" if main is None else f"{main.name} {main}"
    kib = f"{row.figures['bytes'] / 1024:,.1f}" if "bytes" in row.figures else ""
    speed = f"{row.figures['speedup']:.2f}x" if "speedup" in row.figures else ""
    outcome = f"{row.status}: {row.reason}" if row.reason else row.status
    cells = (row.task, outcome, quality, kib, speed, "yes" if is_on_front else "")
    return f"| {' | '.join(markdown(cell) for cell in cells)} |"


def format_sweep_annotations(result: SweepResult, changes: Sequence[Change]) -> Iterator[str]:
    """Yield a line for every task that is not complete, every regression, and the counts."""
    for row in result.rows:
        if row.status != "complete":
            title = workflow_property(f"{row.task}: {row.status}")
            yield f"::error title={title}::{workflow_data(row.reason)}"
    for change in changes:
        if change.is_worse:
            title = workflow_property(f"{change.task}: {change.what}")
            yield f"::error title={title}::{workflow_data(str(change))}"
    title = workflow_property(f"dfqonnx sweep {result.name}")
    yield f"::notice title={title}::{workflow_data(result.describe_counts())}"


def format_sweep_junit(result: SweepResult, changes: Sequence[Change]) -> str:
    """Return the text of `junit.xml`."""
    worse = [change for change in changes if change.is_worse]
    failed = [row for row in result.rows if row.status not in {"complete", "cancelled"}]
    skipped = [row for row in result.rows if row.status == "cancelled"]
    suite = start_suite(
        SuiteFacts(
            name=_SUITE,
            timestamp=result.created[:19],
            tests=len(result.rows) + len(worse),
            failures=len(failed) + len(worse),
            skipped=len(skipped),
            seconds=result.seconds,
            properties={"sweep": result.name, "engine": result.engine},
        )
    )
    for row in result.rows:
        _add_task(suite, row)
    for change in worse:
        case = add_case(suite, f"{change.task}: {change.what}", f"{_SUITE}.since")
        fail_case(case, "regression", str(change))
    return finish_suite(suite, out=result.describe_counts(), err="\n".join(result.notes))


def _add_task(suite: ElementTree.Element, row: SweepRow) -> None:
    seconds = row.figures.get("seconds", 0.0)
    case = add_case(suite, row.task, f"{_SUITE}.{row.model}", seconds=seconds)
    if row.status == "cancelled":
        ElementTree.SubElement(case, "skipped", message="cancelled")
    elif row.status != "complete":
        fail_case(case, row.status, row.reason)
