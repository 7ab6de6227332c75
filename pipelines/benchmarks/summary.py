"""The short page of results, from the long ones: what a reader looks for first.

    python pipelines/benchmarks/summary.py

It takes the rows of RESULTS.md that belong to the default recipe at its own length, and the records
of WITH_DATA.md (`with_data.jsonl`), and writes README.md beside them; with what `quantize_static`
loses at four bits (`int4_with_data.json`) and what labeled training was published to lose it writes
the first table of the repository's own README.md. Nothing is measured here.
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
HEADLINE = (  # network of `with_data.jsonl`, what its figure is, what the float model itself has
    ("EfficientNet-Lite0", "top-1 %", None),
    ("PP-OCR rec", "characters right %", None),
    ("FastestDet", "mAP@0.5 with the float model's boxes as truth, %", 100.0),
)
LABELED = {  # points of top-1 lost by PACT with labels, from the same weights (KwangHoonAn/PACT)
    "W4A4": 0.84,
    "W3A3": 1.64,
}
SIZES = {"W4A4": "0.15", "W3A3": "0.15"}  # INT4 is the narrowest storage of weights
NARROWEST = {"W4A4": "W4A8"}  # as narrow as `quantize_static` gets: its activations have 8 bits
FROM, TO = "<!-- made by pipelines/benchmarks/summary.py -->\n", "<!-- to here -->\n"
HEAD = """# Results in short

Made by `python pipelines/benchmarks/summary.py` from the long pages; edit nothing by hand.

- [RESULTS.md](RESULTS.md): every recipe, width and budget, with seconds, memory and machines
- [WITH_DATA.md](WITH_DATA.md): W8A8 without data against ONNX Runtime's quantizer calibrated on real inputs
- [BEFOREHAND.md](BEFOREHAND.md): what is told of a student without data, and what real inputs show
- [MIXED_BITS.md](MIXED_BITS.md): widths that are looked for, against others of the same bytes
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


def headline(
    long: Earlier, records: Sequence[Mapping[str, Any]], narrow: Sequence[Mapping[str, Any]]
) -> str:
    """Return the first table of the repository's README.md.

    `narrow` are the records of `int4_with_data.json`.
    """
    found = {(record["network"], record["method"]): record for record in records}
    headings = ["network, measure", "float", "dfqonnx, no data",
                "ONNX Runtime, real inputs", "training with labels", "size"]  # fmt: skip
    parts = [line(headings), line(["---", *["---:"] * (len(headings) - 1)])]
    for network, measure, of_float in HEADLINE:
        ours = found[network, "ours, default"]
        judged = ours["judged"]
        theirs = [each["figures"][judged] for (name, method), each in found.items()
                  if name == network and method.startswith("quantize_static")]  # fmt: skip
        teacher = ours["teacher"].get(judged, of_float)
        cells = [f"{value:.2f}" for value in (teacher, ours["figures"][judged], max(theirs))]
        size = f"{ours['size']:.2f}"
        parts.append(line([f"{network}, 8 bits, {measure}", *cells, DASH, size]))
    lost = {row.bits: dict(zip(COLUMNS, values, strict=False)) for row, values in long.rows.items()
            if _is_default(row) and row.model == narrow[0]["model"]}  # fmt: skip
    for bits, labeled in LABELED.items():
        drop = lost[bits]["drop"].partition(" (")[0]
        theirs = [each["drop"] for each in narrow if each["bits"] == NARROWEST.get(bits)]
        their = f"{min(theirs):.2f} at {NARROWEST[bits]}" if theirs else "no such format"
        name = f"ResNet-20 (CIFAR-10), {bits}, points of top-1 lost"
        parts.append(line([name, "0", drop, their, f"{labeled:.2f}", SIZES[bits]]))
    return "".join(parts)


def put_headline(readme: str, table: str) -> str:
    """Return a README.md with another first table."""
    before, _, rest = readme.partition(FROM)
    _, _, after = rest.partition(TO)
    return f"{before}{FROM}\n{table}\n{TO}{after}"


def page(long: Earlier, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the short page."""
    return "".join([HEAD, DROPS, drops(long), BESIDE, with_data(records)])


def main() -> None:
    """Read the long pages and write the short one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=RESULTS / "README.md")
    parser.add_argument("--readme", type=Path, default=RESULTS.parents[1] / "README.md")
    args = parser.parse_args()
    records = [json.loads(each) for each in _read("with_data.jsonl").splitlines()]
    long = read_page(RESULTS / "RESULTS.md", COLUMNS)
    replace_text(args.into, page(long, records))
    table = headline(long, records, json.loads(_read("int4_with_data.json")))
    replace_text(args.readme, put_headline(args.readme.read_text(encoding="utf-8"), table))


def _read(name: str) -> str:
    return (RESULTS / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
