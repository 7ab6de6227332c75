"""A page made earlier, read back: the rows whose reports are no longer at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tables.runs import DASH, Row

SECTION = re.compile(r"^## (?P<name>\S+)(?: \(.*\))?$")
MACHINE = re.compile(r"^- (?P<letter>\w): (?P<name>.+)$")
DEVICE = re.compile(r" cores, (.+)$")
BESIDE = "## Side by side"
LAST = "## Machines"


@dataclass(frozen=True)
class Earlier:
    """What an earlier page holds.

    Attributes:
        rows: cells by row, without the machine's.
        machines: of a row.
        titles: of the sections, by network.
        beside: its tables of `side_by_side.py`; empty without any.
    """

    rows: Mapping[Row, Sequence[str]] = field(default_factory=dict)
    machines: Mapping[Row, Sequence[str]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""


def read_page(path: Path, columns: Sequence[str]) -> Earlier:
    """Read a page back; a missing page has no rows.

    Args:
        path: of the page.
        columns: names of the columns; rows with another number of cells are no rows of runs.
    """
    if not path.is_file():
        return Earlier()
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    machines = {found["letter"]: found["name"] for found in map(MACHINE.match, lines) if found}
    rows: dict[Row, Sequence[str]] = {}
    where: dict[Row, Sequence[str]] = {}
    titles: dict[str, str] = {}
    model = ""
    for line in lines:
        if found := SECTION.match(line):
            model = found["name"]
            titles[model] = line
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == len(columns) and not set(cells[0]) <= {"-"} and cells[0] != columns[0]:
            cell = dict(zip(columns, cells, strict=True))
            names = [machines.get(letter, "unknown") for letter in cell["machine"].split(", ")]
            device = DEVICE.search(names[0])
            row = Row(
                model=model,
                device=device[1] if device else DASH,
                **{name: cell[name] for name in ("recipe", "scale", "budget", "bits")},
                first_last=cell["first/last"],
                residual=cell["residual"],
            )
            rows[row], where[row] = cells[:-1], names
    _, _, beside = text.partition(f"\n{BESIDE}\n")
    tables = beside.partition(f"\n{LAST}\n")[0].partition("\n### ")
    return Earlier(rows, where, titles, "".join(tables[1:]).strip())
