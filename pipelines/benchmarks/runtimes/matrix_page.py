"""The tables of the matrix, one a target, written into a page between two marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtimes.students import NETWORKS

from dfqonnx.evaluation.target_proof import EQUAL_DB
from dfqonnx.foreign_text import markdown
from dfqonnx.runtime.adapters.runtimes import RUNTIMES

BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
BUSY = 1.5  # of a machine: load from which a speed is marked as noisy
Record = Mapping[str, Any]
Records = Mapping[str, Record]


def draw_page(page: Path, records: Records, targets: Mapping[str, Sequence[str]]) -> None:
    """Replace what stands between the marks of a page; at its end where it has none."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n\n".join(_table(target, records) for target in targets)
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def _table(target: str, records: Records) -> str:
    """Return the heading and the table of a target."""
    found = {key: record for key, record in records.items() if key.split()[1] == target}
    columns = sorted({tuple(key.split()[3:]) for key in found} - {()}, key=_order)
    titles = [f"{RUNTIMES[name].title} {version}" for name, version in columns]
    head = ["network", "widths", "checker", "size", *(titles or ["runtime"])]
    rows = [head, ["---"] * len(head)]
    notes: list[str] = []
    for name, network in NETWORKS.items():
        for bits in ("w8a8", "w4a8", "w4a4", "w8a16", "w4a16"):
            file = found.get(f"{name} {target} {bits}")
            if file is None:
                continue
            cells = [network.title, bits.upper(), *_file_cells(file, notes)]
            for column in columns:
                one = found.get(" ".join((name, target, bits, *column)))
                cells.append("" if one is None else _cell(one, notes))
            rows.append(cells if columns else [*cells, "rules only"])
    if len(rows) == 2:
        return f"### `{target}`\n\nNot measured yet."
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    listed = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    return f"### `{target}`\n\n{table}" + (f"\n\n{listed}" if notes else "")


def _order(column: tuple[str, ...]) -> tuple[str, list[int]]:
    name, version = column[0], column[1]
    return name, [int(part) for part in version.split(".") if part.isdecimal()]


def _file_cells(file: Record, notes: list[str]) -> Iterator[str]:
    if "refused" in file:
        yield from (f"refused {_note(str(file['refused']), notes)}", "")
        return
    yield f"no {_note(str(file['checker']), notes)}" if file["checker"] else "yes"
    yield f"{file['bytes'] / file['float_bytes']:.2f}"


def _cell(record: Record, notes: list[str]) -> str:
    """Return what a runtime does with a file, in a few words."""
    if record["failure"]:
        word = "**does not load**" if not record["loads"] else "**does not run**"
        return f"{word} {_note(str(record['failure']), notes)}"
    parts = []
    decibels = record["trained_parity_db"]
    decibels = record["parity_db"] if decibels is None else decibels
    if decibels is not None:
        parts.append("equal" if decibels >= EQUAL_DB else f"{decibels:.0f} dB")
    same = record["trained_same"] if record["trained_same"] is not None else record["same"]
    if same is not None:
        parts.append(f"same {100 * same:.4g} %")
    if record["integer_share"] is not None:
        parts.append(f"integer {100 * record['integer_share']:.0f} %")
    if record["partitions"] is not None:
        parts.append(_partitions(record))
    if record["speedup"] is not None:
        parts.append(f"{'~' if record['load'] > BUSY else ''}x{record['speedup']:.2f}")
    return "; ".join(parts) or "runs"


def _partitions(record: Record) -> str:
    ends = {"QuantizeLinear", "DequantizeLinear"}
    others = [op for op in record["elsewhere"] if op not in ends]
    count = record["partitions"]
    parts = f"{count} part{'' if count == 1 else 's'}"
    return f"{parts}, {len(others)} nodes on the CPU" if others else f"{parts} and the ends"


def _note(text: str, notes: list[str]) -> str:
    """Return the number of a note, a new one where it was not there yet."""
    safe = markdown(text)
    if safe not in notes:
        notes.append(safe)
    return f"({notes.index(safe) + 1})"
