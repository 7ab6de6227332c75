"""The short page of results, from the long ones: what a reader looks for first.

    python pipelines/benchmarks/summary.py

It takes the rows of RESULTS.md that belong to the default recipe at its own length, and the records
of WITH_DATA.md (`with_data.jsonl`), and writes README.md beside them. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results import COLUMNS
from tables.earlier import Earlier, read_page
from tables.figures import line
from tables.records import replace_text
from tables.runs import DASH, Row

RESULTS = Path(__file__).parents[1] / "results"
WIDTHS = ("W8A8", "W4A8", "W4A4", "W3A3", "W2A4")
METHODS = {  # as `with_data.jsonl` names them -> the heading
    "ours, default": "dfqonnx, no data",
    "ours, ptq": "without training",
    "quantize_static minmax": "ONNX Runtime MinMax, real data",
    "quantize_static percentile": "Percentile, real data",
}
HEAD = """# Results in short

Made by `python pipelines/benchmarks/summary.py` from the long pages; edit nothing by hand.

- [RESULTS.md](RESULTS.md): every recipe, width and budget, with seconds, memory and machines
- [WITH_DATA.md](WITH_DATA.md): W8A8 without data against ONNX Runtime's quantizer calibrated on real inputs
- [BEFOREHAND.md](BEFOREHAND.md): what is told of a student without data, and what real inputs show
- [TRIALS.md](TRIALS.md): what was tried on the way to the default recipe
"""  # noqa: E501 (lines of a page)
DROPS = """
## What is lost at few bits

Points of top-1 that the default recipe loses, without any data: mean over runs (least .. most), each with another seed or on another machine.
Labeled images (10,000 of CIFAR-10, 1,000 of ImageNet) were used to measure, and for nothing else. Every Conv and Gemm is quantized, the
first and the last one too.

"""  # noqa: E501 (lines of a page)
BESIDE = """
## At 8 bits, beside today's habit with data

`onnxruntime.quantization.quantize_static` was calibrated on 64 or 100 real inputs of the test set's own kind; dfqonnx saw none. The best of a row is bold.
Size is that of the default recipe's file over the float file.

"""  # noqa: E501


def drops(page: Earlier) -> str:
    """Return the table of drops of the default recipe, a row for each export of a network."""
    cells: dict[str, dict[str, str]] = {}
    for row, values in page.rows.items():
        if _is_default(row) and row.bits in WIDTHS:
            cells.setdefault(row.model, {})[row.bits] = dict(zip(COLUMNS, values, strict=False))[
                "drop"
            ]
    parts = [line(["network", "float, %", *WIDTHS]), line(["---", *["---:"] * (1 + len(WIDTHS))])]
    for model in sorted(cells):
        accuracy = page.titles[model].partition("(")[2].partition(" %")[0] or DASH
        parts.append(line([model, accuracy, *(cells[model].get(bits, "") for bits in WIDTHS)]))
    return "".join(parts)


def _is_default(row: Row) -> bool:
    plain = row.scale == row.budget == row.device == DASH
    return plain and row.recipe == "default" and not row.first_last.isdigit()


def with_data(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of networks at 8 bits; the best of every row is bold."""
    networks: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        networks.setdefault(record["network"], {})[record["method"]] = record
    headings = ["network", "measure", "float", *METHODS.values(), "size"]
    parts = [line(headings), line(["---", "---", *["---:"] * (len(headings) - 2)])]
    for network, found in networks.items():
        first = next(iter(found.values()))
        values = [_judged(found.get(method)) for method in METHODS]
        known = [value for value in values if value is not None]
        best = None if not known else min(known) if first["less"] else max(known)
        texts = [_write(value, first) for value in values]
        cells = [f"**{text}**" if text == _write(best, first) != DASH else text for text in texts]
        measure = first["judged"] + (" (less is better)" if first["less"] else "")
        own = found.get("ours, default")
        size = DASH if own is None or own["size"] is None else f"{own['size']:.2f}"
        teacher = _write(first["teacher"].get(first["judged"]), first)
        parts.append(line([network, measure, teacher, *cells, size]))
    return "".join(parts)


def _judged(record: Mapping[str, Any] | None) -> float | None:
    return None if record is None else record["figures"].get(record["judged"])


def _write(value: float | None, record: Mapping[str, Any]) -> str:
    if value is None:
        return DASH
    return f"{value:.3f}" if record["less"] else f"{value:.2f}"


def page(long: Earlier, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the short page."""
    return "".join([HEAD, DROPS, drops(long), BESIDE, with_data(records)])


def main() -> None:
    """Read the long pages and write the short one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=RESULTS / "README.md")
    args = parser.parse_args()
    lines = (RESULTS / "with_data.jsonl").read_text(encoding="utf-8").splitlines()
    long = read_page(RESULTS / "RESULTS.md", COLUMNS)
    replace_text(args.into, page(long, [json.loads(each) for each in lines]))


if __name__ == "__main__":
    main()
