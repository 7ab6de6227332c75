"""`dfqonnx compare`: several students of one teacher, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import display, stdout

if TYPE_CHECKING:
    from dfqonnx.report.comparison import ComparisonTable


def compare(
    targets: Annotated[
        list[Path], typer.Argument(help="Output folders of runs, or ONNX files of any origin.")
    ],
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", "-t", help="The float file; the reports' own when they agree."),
    ] = None,
    eval_data: o.EvalData = None,
    preprocess: o.Preprocess = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write a page, such as compare.html.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of the runtime while timing.")] = 1,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Compare accuracy or agreement, size, speed and integer nodes on the same images."""
    from dfqonnx.config.commands import CompareConfig
    from dfqonnx.config.preprocess import read_preprocess

    spec = CompareConfig(
        targets=tuple(targets),
        teacher=teacher,
        preprocess=None if preprocess is None else read_preprocess(preprocess),
        eval_data=eval_data,
        seed=seed,
        threads=threads,
    )
    from dfqonnx.report.html.comparison_page import check_page, write_page
    from dfqonnx.workflows.compare import compare as measure

    if out is not None:
        check_page(out)
    with display(quiet=quiet, as_json=as_json) as progress:
        league = measure(spec, progress=progress)
    if out is not None:
        write_page(league, out)
    if as_json:
        stdout().out(league.to_json(), end="", highlight=False)
    elif not quiet:
        _show(league)
        if out is not None:
            stdout().print(f"Wrote {out}", soft_wrap=True, markup=False)
    return 0 if any(entry.report is not None for entry in league.entries) else 1


def _show(league: ComparisonTable) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from dfqonnx.report.comparison import HEADINGS, standings

    lines = standings(league)
    used = [name for name in HEADINGS if any(line.cells[name] for line in lines)]
    table = Table("student", "bits", box=box.SIMPLE, pad_edge=False)
    for name in used:
        table.add_column(name, justify="right")
    for line in lines:
        if not line.problem:
            table.add_row(Text(line.name), line.bits, *(line.cells[name] for name in used))
    console = stdout()
    top1 = league.teacher.top1
    accuracy = "" if top1 is None else f", top-1 {top1.value:.2f} %"
    console.print(
        f"Against {league.teacher.path}{accuracy}, on {league.images}.",
        markup=False,
        soft_wrap=True,
    )
    console.print(table)
    for line in lines:
        if line.problem:
            console.print(Text(f"{line.name}: {line.problem}", style="yellow"), soft_wrap=True)
