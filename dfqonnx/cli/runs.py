"""`dfqonnx runs`: lists what is kept of runs, and cleans it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_table, print_text
from dfqonnx.core.run_outline import describe_seconds
from dfqonnx.errors import UsageError


def runs(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="Only these, by the first letters of their keys."),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove them, but for what is at work.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="TIME",
            help="Only what was not used for so long: 30m, 12h, 7d.",
        ),
    ] = None,
    as_json: o.AsJson = False,
) -> int:
    """List runs that can go on and images that serve other runs, or clean them away."""
    from dfqonnx.checkpoint.cache_folder import CacheFolder
    from dfqonnx.workflows.runs import clean_runs, list_runs

    age = 0.0 if older_than is None else read_age(older_than)
    found = (clean_runs if clean else list_runs)(keys=keys or (), older_than=age)
    if as_json:
        print_json([dataclasses.asdict(kept) for kept in found])
        return 0
    folder = CacheFolder.find()
    size = f"{sum(kept.bytes for kept in found) / 1e6:,.1f} MB"
    if clean:
        print_text(f"Removed {len(found)} from {folder.path}: {size}.")
        return 0
    if not found:
        print_text(f"Nothing is kept in {folder.path}.")
        return 0
    print_table(
        ["key", "kind", "model", "bits", "target", "reached", "last used", "MB"],
        [
            (
                kept.key, kept.kind, Path(kept.model).name, kept.bits, kept.target,
                "at work" if kept.at_work else kept.reached,
                f"{describe_seconds(kept.age_seconds)} ago", f"{kept.bytes / 1e6:,.1f}",
            )
            for kept in found
        ],
        texts=6,
    )  # fmt: skip
    print_text(
        f"{size} of at most {folder.limit / 1e9:,.1f} GB in {folder.path}. An interrupted run goes"
        " on when its command is given again; dfqonnx runs --clean removes everything."
    )
    return 0


def read_age(text: str) -> float:
    """Return the seconds in `30m`, `12h` or `7d`.

    Raises:
        UsageError: it is not a number followed by s, m, h or d.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    number, unit = text.strip()[:-1], text.strip()[-1:].lower()
    if unit not in units or not number.replace(".", "", 1).isdecimal():
        raise UsageError(f"--older-than: cannot read {text!r}; write 30m, 12h or 7d")
    return float(number) * units[unit]
