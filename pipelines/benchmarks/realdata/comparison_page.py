"""The page of `with_data.py`: one record a network and candidate, and the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from realdata.task import Figures
from tables.figures import line
from tables.records import read_lines, replace_text
from tables.runs import DASH

FLOAT = "float"
OURS = ("ours, ptq", "ours, default")
WITH_DATA = ("quantize_static minmax", "quantize_static percentile")
METHODS = (*OURS, *WITH_DATA)
HEAD = """# Without data against today's habit with data

Made by `python pipelines/benchmarks/with_data.py`; edit nothing by hand, `with_data.jsonl` holds a line for each row.

Every network at W8A8, four times: dfqonnx without any data (`--recipe ptq`, and the default recipe with `--budget {budget}`), and
`onnxruntime.quantization.quantize_static` (QDQ, INT8 weights per channel, UINT8 activations, MinMax and Percentile) calibrated on real inputs of the
test set's own kind, which are never among those it is tested on. Where each half of a set calibrates for the other, outputs are pooled over both halves.

| column | what |
| --- | --- |
| judged | the figure that candidates are compared by; a better one is higher, but for MAE |
| seconds | wall clock to make the file, one thread; ours includes its whole proof (`report.json`, latency), theirs preparation and calibration |
| size, speed | against the float file; one input, one thread, turn by turn with the float file |
| needed | what the float file had to go through before `quantize_static` gave a smaller file that runs |

Fidelity takes the float model's own detections as truth: of a score of at least 0.3 (FastestDet), 0.5 (UltraFace). PSNR is that of pictures of 0 to 255.
SQNR is that of the worst output, over what varies with the input. MAE is in points of the score (1 to 5), whose spread is beside it. Top-1 of 900 photographs has a standard error of about 1.5 points, paired differences of one about half of that.

"""  # noqa: E501 (rows of a table)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One candidate of one network."""

    network: str
    method: str
    kind: str
    reads: str  # what its inputs are
    judged: str
    less: bool  # whether less of it is better
    tested: int  # inputs that it was tested on
    calibrated: int = 0  # real inputs that it was made with
    figures: Figures = field(default_factory=dict)
    teacher: Figures = field(default_factory=dict)  # the float model's own figures
    told: Figures = field(default_factory=dict)  # by its report, on synthetic inputs
    seconds: float | None = None
    size: float | None = None  # bytes over the float file's
    speed: float | None = None
    needed: str = ""
    failed: tuple[str, ...] = ()  # preparations that led to no file, with the reason
    problem: str = ""  # why there is no file at all
    budget: str = ""
    quick: bool = False  # on a few inputs only, to try things out

    @property
    def key(self) -> tuple[str, str]:
        """What it is the only record of."""
        return self.network, self.method

    @property
    def value(self) -> float | None:
        """The figure that it is judged by."""
        return self.figures.get(self.judged)


def read(path: Path) -> list[Record]:
    """Read records, one JSON line each; a file that is not there has none.

    Raises:
        SystemExit: a line is no record.
    """
    return read_lines(
        path, lambda line: Record(**{**line, "failed": tuple(line["failed"])}), "a candidate"
    )


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records, one JSON line each."""
    replace_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in records))


def merge(records: Iterable[Record], order: Sequence[str]) -> list[Record]:
    """Return the last record of every network and candidate, in the order of the page."""
    latest = {record.key: record for record in records}
    return sorted(latest.values(), key=lambda r: (order.index(r.network), METHODS.index(r.method)))


def is_at_least_as_good(first: Record, second: Record) -> bool:
    """Return whether the first candidate's judged figure is no worse, to what the page shows."""
    if first.value is None or second.value is None:
        return second.value is None and first.value is not None
    digits = 3 if first.less else 2
    ours, theirs = round(first.value, digits), round(second.value, digits)
    return ours <= theirs if first.less else ours >= theirs


def best(records: Iterable[Record]) -> Record | None:
    """Return the candidate with the best judged figure; None where none has one."""
    known = [record for record in records if record.value is not None]
    sign = -1 if known and known[0].less else 1
    return max(known, key=lambda record: sign * (record.value or 0.0), default=None)


def render(records: Sequence[Record]) -> str:
    """Return the page."""
    budgets = sorted({record.budget for record in records if record.budget})
    networks = {record.network: None for record in records}
    by_network = {name: [r for r in records if r.network == name] for name in networks}
    parts = [HEAD.replace("{budget}", " or ".join(budgets) or DASH)]
    parts += [_summary(by_network), _table(by_network), _reports(records), _failures(records)]
    return "".join(parts)


def _summary(by_network: Mapping[str, Sequence[Record]]) -> str:
    """Return how many networks each of our candidates is at least as good on."""
    lines = []
    for method in OURS:
        met, behind, compared = 0, [], 0
        for name, records in by_network.items():
            ours = next((r for r in records if r.method == method), None)
            theirs = best(r for r in records if r.method in WITH_DATA)
            if ours is None or theirs is None:
                continue
            compared += 1
            if is_at_least_as_good(ours, theirs):
                met += 1
            else:
                mine = DASH if ours.value is None else _number(ours.judged, ours.value)
                lost = f"{mine} against {_number(theirs.judged, theirs.value or 0.0)}"
                behind.append(f"{name} ({theirs.judged} {lost})")
        text = f"- **{method}**: at least as good as the better of the two with data on {met} of"
        lines.append(
            f"{text} {compared} networks" + (f"; behind on {', '.join(behind)}" if behind else "")
        )
    return "\n".join(lines) + "\n\n"


def _table(by_network: Mapping[str, Sequence[Record]]) -> str:
    heads = ("network", "candidate", "judged", "other figures", "calibrated on", "seconds")
    columns = (*heads, "size", "speed", "needed")
    parts = [line(columns), line(["---"] * len(columns))]
    for name, records in by_network.items():
        judged = records[0].judged
        known = {key: v for r in records for key, v in r.teacher.items()}
        value = _number(judged, known[judged]) if judged in known else DASH
        others = _others(known, judged)
        about = f"{name}: {records[0].reads}" + (" (a trial)" if records[0].quick else "")
        parts.append(line((about, FLOAT, f"{judged} {value}", others, "", "", "1", "1", "")))
        parts.extend(line(_cells(record)) for record in records)
    return "".join(parts)


def _reports(records: Sequence[Record]) -> str:
    """Return what the reports of our runs said, which saw no real input, beside the truth."""
    told = [record for record in records if record.told and record.figures]
    if not told:
        return ""
    columns = ("network", "candidate", "its report, synthetic inputs", "real inputs")
    heading = "\n## What the reports said beforehand\n\n" + line(columns)
    return (
        heading
        + line(["---"] * len(columns))
        + "".join(
            line((r.network, r.method, _others(r.told, ""), _others(r.figures, ""))) for r in told
        )
    )


def _cells(record: Record) -> tuple[str, ...]:
    if record.problem:
        return ("", record.method, DASH, record.problem, *[DASH] * 4, "")
    value = DASH if record.value is None else _number(record.judged, record.value)
    return (
        "",
        record.method,
        value,
        _others(record.figures, record.judged),
        str(record.calibrated) if record.calibrated else "nothing",
        DASH if record.seconds is None else f"{record.seconds:.0f}",
        DASH if record.size is None else f"{record.size:.3f}",
        DASH if record.speed is None else f"{record.speed:.2f}x",
        record.needed,
    )


def _others(figures: Figures, judged: str) -> str:
    return ", ".join(
        f"{name} {_number(name, value)}" for name, value in figures.items() if name != judged
    )


def _number(name: str, value: float) -> str:
    return f"{value:.3f}" if name in {"MAE", "spread", "correlation"} else f"{value:.2f}"


def _failures(records: Iterable[Record]) -> str:
    """Return what did not work on the way."""
    lines = {
        f"- {record.network}: {text}\n"
        for record in records
        if record.method in WITH_DATA
        for text in record.failed
    }
    if not lines:
        return ""
    return "\n## What `quantize_static` refused\n\n" + "".join(sorted(lines))
