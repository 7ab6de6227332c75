"""What the page needs of a run, one JSON line each: reports are large, and folders come and go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tables.runs import Row, Run

T = TypeVar("T")


def read_lines(path: Path, make: Callable[[dict[str, Any]], T], what: str) -> list[T]:
    """Return what `make` makes of each line of JSON; a file that is not there has none.

    Raises:
        SystemExit: a line is no record of `what`.
    """
    if not path.is_file():
        return []
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(make(json.loads(text)))
        except (ValueError, TypeError, KeyError) as error:
            raise SystemExit(f"{path}:{number}: no record of {what}: {error}") from None
    return found


def read_records(path: Path) -> list[Run]:
    """Read the records of runs back, see `read_lines`."""
    return read_lines(path, lambda line: Run(**{**line, "row": Row(**line["row"])}), "a run")


def write_records(path: Path, runs: Iterable[Run]) -> list[Run]:
    """Write records, sorted; return them.

    Of two with the same row, seed and machine the last stays.
    """
    latest = {(run.row, run.seed, run.machine): run for run in runs}
    kept = sorted(
        latest.values(), key=lambda run: (run.row.model, run.row.order, run.seed, run.machine)
    )
    lines = [json.dumps(asdict(run)) + "\n" for run in kept]
    replace_text(path, "".join(lines))
    return kept


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        SystemExit: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise SystemExit(f"{path}: cannot be written: {error.strerror}") from None
