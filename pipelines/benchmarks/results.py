"""Many runs' report.json into one page.

    python pipelines/benchmarks/results.py RUNS... > PAGE
    python pipelines/benchmarks/results.py RUNS... --records tables/measured.jsonl --into RESULTS.md

Folders are searched for report.json. Runs that differ in nothing but seed and machine share a row:
mean, and least to most. Of two runs with the same seed on the same machine the one found last
counts. Where a default run was also given budgets, a curve of drop against seconds follows; tables
of `side_by_side.py` that lie in the folders come last. `--records` adds the runs to a file that
holds a line for each and shows all of them; `--into` writes a page in place, whose rows stay where
no run belongs to them.
"""

from __future__ import annotations

import argparse
import statistics
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tables.curves import curves
from tables.earlier import Earlier, read_page
from tables.figures import figure, line, mean
from tables.records import read_records, replace_text, write_records
from tables.runs import DASH, Row, Run, find, read

HEAD = """# Results

Made by `python pipelines/benchmarks/results.py RUNS... --records pipelines/results/measured.jsonl --into pipelines/results/RESULTS.md` from the reports of runs;
edit nothing by hand. `measured.jsonl` holds a line for each run; rows without one there are of runs taken earlier. [Results in short](README.md) is the page
to begin with.

| column | what |
| --- | --- |
| recipe | of `dfqonnx recipes`, with its settings as they were when it ran: steps say how long; papers' recipes at `quick` scale, all from before version 0.3, have changed since, and what they gain now is in [ANCESTORS.md](ANCESTORS.md) |
| drop | the float model's top-1 minus the quantized one's, in points; mean over runs (least .. most), each with a seed or on a machine of its own |
| untrained | the same drop before the first training step, mean over runs; it is the drop where training was given up |
| n | labeled images that it was measured on; no run used them for anything else |
| first/last | weight bits of the first and last layer |
| residual | bits of residual activations, the network's input and the classifier's input |
| budget | what `--budget` or `--effort` asked for; without either the default's own length |
| images seen | training steps times batch size |
| divergence | of the synthetic images from what BatchNormalization remembers of the training data, in nats, mean over layers (`dfqonnx similarity`); 0 is the training data. Runs before version 0.3, which are all of these, have the reverse: KL of the training data from the images |
| seconds, peak MiB | of the whole run; means over runs, seconds on each machine |
"""  # noqa: E501 (rows of a table)
BESIDE = """
## Side by side

Made by `pipelines/benchmarks/side_by_side.py`: dfqonnx without training, by default and with its longest budget, and ONNX Runtime's own quantizer on
the default run's images. Processor seconds; speed against the float file, one thread, one image.

"""  # noqa: E501
COLUMNS = (
    "recipe", "scale", "budget", "bits", "first/last", "residual", "drop", "untrained", "runs", "n",
    "steps", "images seen", "divergence", "seconds", "peak MiB", "machine",
)  # fmt: skip


def beside(places: Sequence[Path]) -> list[str]:
    """Return every table of `side_by_side.py` at or below the places."""
    found = [path for place in places for path in sorted(place.rglob("side_by_side.md"))]
    return [path.read_text(encoding="utf-8").strip() for path in found]


def page(runs: Iterable[Run], others: Sequence[str], earlier: Earlier) -> str:
    """Return the Markdown page; `others` are tables that come last, as they are."""
    grouped: dict[Row, dict[tuple[int, str], Run]] = {}
    for run in runs:
        grouped.setdefault(run.row, {})[run.seed, run.machine] = run
    groups = {row: list(found.values()) for row, found in grouped.items()}
    rows = groups.keys() | earlier.rows.keys()
    where = {row: _machines(groups, earlier, row) for row in rows}
    machines = sorted({machine for names in where.values() for machine in names})
    letters = dict(zip(machines, string.ascii_lowercase, strict=False))
    parts = [HEAD]
    for model in sorted({row.model for row in rows}):
        here = sorted((row for row in rows if row.model == model), key=lambda row: row.order)
        title = _title(model, [run for row in here for run in groups.get(row, [])], earlier)
        parts += [f"\n{title}\n\n", line(COLUMNS), line(["---"] * len(COLUMNS))]
        for row in here:
            cells = _cells(row, groups[row]) if row in groups else earlier.rows[row]
            parts.append(line([*cells, ", ".join(letters.get(name, "?") for name in where[row])]))
    parts += curves(groups)
    if others:
        parts += [BESIDE, "\n\n".join(others), "\n"]
    parts.append("\n## Machines\n\n")
    parts += [f"- {letters.get(machine, '?')}: {machine}\n" for machine in machines]
    return "".join(parts)


def _machines(groups: Mapping[Row, Sequence[Run]], earlier: Earlier, row: Row) -> Sequence[str]:
    """Return the machines of a row, by name."""
    return sorted({run.machine for run in groups[row]}) if row in groups else earlier.machines[row]


def _title(model: str, runs: Sequence[Run], earlier: Earlier) -> str:
    teacher = mean(run.teacher_top1 for run in runs)
    if teacher is None:
        return earlier.titles.get(model, f"## {model}")
    return f"## {model} ({teacher:.2f} % in float)"


def _cells(row: Row, runs: list[Run]) -> list[str]:
    drops = [run.drop for run in runs if run.drop is not None]
    drop = DASH
    if drops:
        drop = f"{statistics.fmean(drops):.2f}"
        drop += f" ({min(drops):.2f} .. {max(drops):.2f})" if len(drops) > 1 else ""
    return [
        row.recipe, row.scale, row.budget, row.bits, row.first_last, row.residual, drop,
        figure((run.untrained for run in runs), ".2f"), str(len(runs)),
        figure((run.n for run in runs), ",.0f"),
        figure((run.steps for run in runs), ",.0f"),
        figure((run.images_seen for run in runs), ",.0f"),
        figure((run.divergence for run in runs), ".4f"),
        _seconds(runs),
        figure((run.memory_mib for run in runs), ",.0f"),
    ]  # fmt: skip


def _seconds(runs: Sequence[Run]) -> str:
    """Return the mean on every machine, in the order of the machines' letters."""
    return " / ".join(
        figure((run.seconds for run in runs if run.machine == name), ",.0f")
        for name in sorted({run.machine for run in runs})
    )


def main() -> None:
    """Read, record, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, help="output folders, or folders of them")
    parser.add_argument("--records", type=Path, help="a file of records to add the runs to")
    parser.add_argument("--into", type=Path, help="a page to bring up to date")
    args = parser.parse_args()
    if not args.runs and args.records is None:
        parser.error("name folders of runs, or --records")
    runs = [read(path) for path in find(args.runs)]
    if args.records is not None:
        runs = write_records(args.records, [*read_records(args.records), *runs])
    earlier = Earlier() if args.into is None else read_page(args.into, COLUMNS)
    others = beside(args.runs) or ([earlier.beside] if earlier.beside else [])
    made = page(runs, others, earlier)
    if args.into is None:
        sys.stdout.write(made)
    else:
        replace_text(args.into, made)


if __name__ == "__main__":
    main()
