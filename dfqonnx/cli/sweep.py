"""`dfqonnx sweep`: many runs, on this machine or on a cluster, and one report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.failures import Interruption
from dfqonnx.cli.show import print_json, print_table, print_text
from dfqonnx.cli.sweep_screen import open_screen
from dfqonnx.foreign_text import json_safe

if TYPE_CHECKING:
    from dfqonnx.config.sweep_request import SweepConfig
    from dfqonnx.report.since import Change
    from dfqonnx.report.sweep_result import SweepResult

MOST_LISTED = 60  # tasks in the table at the end; the page has all
Place = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", metavar="FOLDER",
        help="Where everything goes: a folder, or a URL such as s3://bucket/sweep. By default what"
        " the file says, else its name beside it.",
    ),
]  # fmt: skip

SweepPath = Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="What to run.")]
EngineChoice = Annotated[
    Literal["auto", "ray", "local"],
    typer.Option(
        help="ray runs tasks side by side, local one after the other in this process; auto takes"
        " ray where it is installed."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A Ray cluster to join; without it a local Ray starts."),
]
Cores = Annotated[int | None, typer.Option(min=1, help="Cores of the local Ray; all by default.")]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="EARLIER",
        help="An earlier sweep (folder, sweep.json or sweep.parquet, or their URL): the command"
        " ends with 1 where a task got worse by more than chance.",
    ),
]
TrackingStore = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Log every task to this MLflow tracking store too."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run complete tasks again too.")]
ListOnly = Annotated[
    bool, typer.Option("--dry-run", help="List the tasks and what they take; run nothing.")
]


def sweep(
    file: SweepPath,
    out: Place = None,
    engine: EngineChoice = "auto",
    address: Address = None,
    cores: Cores = None,
    since: Since = None,
    mlflow: TrackingStore = None,
    fresh: Fresh = False,
    dry_run: ListOnly = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Run models x bits x targets x recipes x seeds. Ends with 1 if a task is not complete."""
    from dfqonnx.config.sweep_file import read_sweep
    from dfqonnx.config.sweep_request import SweepConfig, place_of
    from dfqonnx.core.location import find_paths, is_remote
    from dfqonnx.storage.transfer import find_locations

    plan = read_sweep(
        file, find=lambda pattern: (find_locations if is_remote(pattern) else find_paths)(pattern)
    )
    config = SweepConfig(
        file=file, plan=plan, out=place_of(out or plan.out or f"{file.stem}-sweep"), engine=engine,
        address=address, cores=cores, since=None if since is None else place_of(since),
        mlflow=mlflow, fresh=fresh,
    )  # fmt: skip
    if dry_run:
        return _list_tasks(config, quiet=quiet, as_json=as_json)
    from dfqonnx.workflows.sweep import sweep as run_sweep

    try:
        with open_screen(quiet=quiet, as_json=as_json) as screen:
            result, changes = run_sweep(config, screen)
    except KeyboardInterrupt:
        raise Interruption(
            "interrupted; the same command goes on with the tasks that are not complete"
        ) from None
    _show(result, changes, config, quiet=quiet, as_json=as_json)
    is_worse = any(change.is_worse for change in changes or ())
    return 1 if is_worse else result.exit_code


def _list_tasks(config: SweepConfig, *, quiet: bool, as_json: bool) -> int:
    from dfqonnx.config.sweep_file import recipe_name
    from dfqonnx.core.location import describe_location
    from dfqonnx.core.run_outline import describe_seconds
    from dfqonnx.workflows.sweep import list_refused
    from dfqonnx.workflows.sweep_resources import choose_resources, estimate_costs

    tasks = config.plan.tasks
    refused = list_refused(tasks)
    notes: list[str] = []
    costs = estimate_costs(tasks, notes.append)
    resources = choose_resources(tasks, config.plan.resources, notes.append, costs=costs)
    seconds = {name: cost.seconds for name, cost in costs.items()}
    if as_json:
        print_json(
            [
                {
                    "task": task.name,
                    "model": describe_location(task.model),
                    "bits": task.bits,
                    "target": task.target,
                    "recipe": recipe_name(task.recipe),
                    "seed": task.seed,
                    "resources": vars(resources[task.name]),
                    "seconds": seconds[task.name] or None,
                    "refused": refused.get(task.name),
                }
                for task in tasks
            ]
        )
        return 0
    if not quiet:
        rows: list[tuple[str, ...]] = []
        for task in tasks:
            time = describe_seconds(seconds[task.name]) if seconds[task.name] else ""
            takes = str(resources[task.name])
            rows.append((task.name, describe_location(task.model), takes, time))
        print_table(["task", "model", "takes", "about"], rows, texts=3)
        if whole := sum(seconds.values()):
            notes.append(f"About {describe_seconds(whole)} on this machine, one after the other.")
        for note in notes:
            print_text(note)
        for name, reason in refused.items():
            print_text(f"{name} will not run: {reason}", style="yellow")
        where = describe_location(config.out)
        print_text(f"{len(tasks)} tasks. This was a dry run; a sweep would write {where}/.")
    return 0


def _show(
    result: SweepResult,
    changes: tuple[Change, ...] | None,
    config: SweepConfig,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from dfqonnx.core.location import describe_location
    from dfqonnx.report.sweep_files import PAGE, format_sweep, format_sweep_annotations

    if as_json:
        sys.stdout.write(json_safe(result.to_json()))
    elif not quiet:
        _print_result(result, changes)
        print_text(f"Wrote {describe_location(config.out)}/; start with {PAGE}.")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        lines = format_sweep_annotations(result, changes or ())
        sys.stderr.write("".join(f"{line}\n" for line in lines))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(path).open("a", encoding="utf-8", errors="replace") as file:
                file.write(format_sweep(result, changes) + "\n")
        except OSError as error:
            sys.stderr.write(f"Warning: {path}: {error.strerror}; it gets no summary\n")


def _print_result(result: SweepResult, changes: tuple[Change, ...] | None) -> None:
    fronts = {model: result.front(model, "bytes") for model in result.models}
    rows: list[tuple[str, ...]] = []
    for row in result.rows[:MOST_LISTED]:
        main = row.main_quality
        rows.append(
            (
                row.task,
                row.status,
                "" if main is None else f"{main.name} {main}",
                f"{row.figures['bytes'] / 1024:,.0f}" if "bytes" in row.figures else "",
                f"{row.figures['speedup']:.2f}x" if "speedup" in row.figures else "",
                "front" if row.task in fronts[row.model] else "",
            )
        )
    print_table(["task", "outcome", "quality", "KiB", "speed", ""], rows, texts=3)
    for row in result.rows:
        if row.reason:
            print_text(f"{row.task}: {row.status}: {row.reason}", style="yellow")
    for change in changes or ():
        print_text(str(change), style="red" if change.is_worse else "")
    if changes is not None and not any(change.is_worse for change in changes):
        print_text("Nothing got worse since the earlier sweep, beyond what is chance.")
    print_text(f"{result.describe_counts()}.")
