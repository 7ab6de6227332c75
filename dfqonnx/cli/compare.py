"""`dfqonnx compare`: several students of one teacher in one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, print_table, print_text
from dfqonnx.foreign_text import json_safe

if TYPE_CHECKING:
    from dfqonnx.report.comparison import ComparisonTable


def compare(
    targets: Annotated[
        list[Path], typer.Argument(help="Output folders of runs, or ONNX files of any origin.")
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher", "-t", help="The float file; by default the one that the reports name."
        ),
    ] = None,
    eval_data: o.EvalData = None,
    classes: o.Classes = None,
    preprocess: o.Preprocess = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write a page, such as compare.html."),
    ] = None,
    threads: Annotated[
        int, typer.Option(help="Number of threads of the runtime during timing.")
    ] = 1,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Compare accuracy or agreement, size, speed and integer nodes on the same images."""
    from dfqonnx.config.commands import CompareConfig
    from dfqonnx.config.preprocess import read_preprocess

    spec = CompareConfig(
        students=tuple(targets),
        teacher=teacher,
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        eval_data=eval_data,
        classes=classes,
        seed=seed,
        threads=threads,
    )
    from dfqonnx.report.html.comparison_page import check_page, write_page
    from dfqonnx.workflows.compare import compare as run_comparison

    if out is not None:
        check_page(out)
    with display(quiet=quiet, as_json=as_json) as progress:
        table = run_comparison(spec, progress=progress)
    if out is not None:
        write_page(table, out)
    if as_json:
        sys.stdout.write(json_safe(table.to_json()))
    elif not quiet:
        _show(table)
        if out is not None:
            print_text(f"Wrote {out}.")
    return 0 if any(student.report is not None for student in table.students) else 1


def _show(table: ComparisonTable) -> None:
    from dfqonnx.report.best_student import describe_best

    top1, columns = table.teacher.top1, table.headings
    accuracy = "" if top1 is None else f" (top-1 {top1.value:.2f} %)"
    print_text(f"Compared with {table.teacher.path}{accuracy} on {table.images}.")
    print_table(
        ["model", "bits", *columns],
        [
            (row.name, row.bits, *(row.cells.get(name, "") for name in columns))
            for row in table.rows
        ],
        texts=2,
    )
    for sentence in describe_best(table):
        print_text(sentence)
    for student in table.students:
        if student.problem:
            print_text(f"{student.name}: {student.problem}", style="yellow")
