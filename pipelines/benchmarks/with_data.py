"""dfqonnx without data against ONNX Runtime's quantizer with real data, on nine networks at W8A8.

    with_data.py --out WORK [--shared ../shared] [--lane 0/2]     make and measure what is not there
    with_data.py --out WORK --speed                               then time all files, nothing else
    with_data.py --out WORK --only FastestDet --methods "ours, ptq" [--quick]

`--shared` is the folder that holds `models/` and `data/`; a network whose file or data is not there
is left out, and the reason is printed. Real inputs calibrate `quantize_static` and measure; no run
of dfqonnx sees one. Every candidate's record lies in WORK as soon as it is measured, and is not
measured again (`--again` does); with `--lane 0/2` only the first, third, ... of the networks are
done: one lane a core. All records make `pipelines/results/with_data.jsonl` and `WITH_DATA.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from measure import lane
from realdata.comparison_page import METHODS, OURS, Record, merge, read, render, write
from realdata.peer import Unquantizable, find_preparation, quantize_with_data
from realdata.task import (
    Absent,
    Figures,
    Fold,
    Outputs,
    RealInputs,
    Task,
    find,
    output_levels,
    shorten,
)
from realdata.tasks import ORDER, read_tasks, run_file
from tables.records import replace_text

from dfqonnx.runtime.latency import measure_latency

FEW = 4  # inputs of a fold's part in a trial
RESULTS = Path(__file__).parents[1] / "results"


@dataclasses.dataclass(frozen=True)
class Made:
    """The files of one candidate, fold by fold (the same one where no data made it)."""

    files: tuple[Path, ...]
    seconds: float
    calibrated: int = 0
    needed: str = ""
    failed: tuple[str, ...] = ()
    told: Figures = dataclasses.field(default_factory=dict)  # by its report, without any real input


class Failure(Exception):
    """A candidate has no file; the message says why."""


def slug(*words: str) -> str:
    """Return a file name of words."""
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "_", word).strip("_") for word in words)


def make_ours(task: Task, method: str, args: argparse.Namespace) -> Made:
    """Run `dfqonnx run`; a run that is there already is not done again.

    Raises:
        Failure: it ends without a file.
    """
    out = args.out / slug(task.name, method)
    log = out.with_suffix(".seconds")
    if not out.is_dir():
        words = [sys.executable, "-m", "dfqonnx", "run", "--quiet", "--bits", "w8a8"]
        words += ["--model", args.shared / "models" / task.file, "--out", out]
        words += ["--recipe", "ptq"] if method == OURS[0] else ["--budget", args.budget]
        if args.quick and method == OURS[0]:
            words += ["--budget", "10s"]
        if task.preprocess is not None:
            form = out.with_suffix(".yaml")
            keys = ("scale", "mean", "std", "layout", "channels")
            values = {key: getattr(task.preprocess, key) for key in keys}
            lists = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
            form.write_text(yaml.safe_dump(lists), encoding="utf-8")
            words += ["--preprocess", form]
        if task.size is not None:
            words += ["--image-size", "x".join(map(str, task.size))]
        began = time.perf_counter()
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
        if not out.is_dir():
            raise Failure(f"exit {done.returncode}: {' '.join(done.stderr.split())[:300]}")
        log.write_text(f"{time.perf_counter() - began:.1f}", encoding="utf-8")
    student, seconds = next(out.glob("*.onnx")), float(log.read_text(encoding="utf-8"))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return Made((student,) * len(task.folds), seconds, told=read_told(report))


def read_told(report: Mapping[str, Any]) -> Figures:
    """Return what a report says of its student on synthetic inputs."""
    told = {
        each["name"]: each["student"]
        for each in report.get("measures") or ()
        if each["inputs"] == "synthetic" and each["student"] is not None
    }
    decibels = (report.get("agreement") or {}).get("sqnr_db")
    return told if decibels is None else told | {"sqnr dB": decibels}


def make_theirs(task: Task, method: str, real: RealInputs, args: argparse.Namespace) -> Made:
    """Quantize with ONNX Runtime on the calibration inputs of every fold.

    Raises:
        Failure: no preparation leads to a file.
    """
    model, files, seconds = args.shared / "models" / task.file, [], []
    try:
        found = find_preparation(model, real.feed(task.folds[0].calibration[0]), size=task.size)
        for number, fold in enumerate(task.folds):
            out = args.out / f"{slug(task.name, method)}.{number}.onnx"
            feeds = [real.feed(place) for place in fold.calibration]
            began = time.perf_counter()
            quantize_with_data(model, feeds, out, method=method, found=found, size=task.size)
            seconds.append(time.perf_counter() - began)
            files.append(out)
    except Unquantizable as error:
        raise Failure(str(error)) from None
    count = max(len(fold.calibration) for fold in task.folds)
    return Made(tuple(files), sum(seconds) / len(seconds), count, found.needed, found.failed)


def test(task: Task, real: RealInputs, made: Made) -> Outputs:
    """Return the outputs for all test inputs, each from the file of its own fold."""
    outputs: list[Outputs] = [
        run_file(file, real, fold.test) for file, fold in zip(made.files, task.folds, strict=True)
    ]
    return [output for part in outputs for output in part]


def measure(task: Task, args: argparse.Namespace) -> Iterator[Record]:
    """Make and measure the candidates of a network that have no record yet."""
    todo = [m for m in args.methods if args.again or not record_place(task, m, args).is_file()]
    if not todo:
        return
    find(args.shared / "models" / task.file)
    real = task.read(args.shared / "data")
    teacher = run_file(args.shared / "models" / task.file, real, task.tested)

    def truth(outputs: Outputs) -> Figures:
        return {} if task.truth is None else task.truth(real, task.tested, outputs)

    for method in todo:
        common = Record(
            network=task.name, method=method, kind=task.kind, reads=task.reads, judged=task.judged,
            less=task.less, tested=len(task.tested), quick=args.quick, teacher=truth(teacher),
            budget=args.budget if method == OURS[1] else "",
        )  # fmt: skip
        try:
            ours = method in OURS
            made = make_ours(task, method, args) if ours else make_theirs(task, method, real, args)
        except Failure as failure:
            yield dataclasses.replace(common, problem=str(failure))
            continue
        outputs = test(task, real, made)
        yield dataclasses.replace(
            common,
            figures=truth(outputs)
            | task.fidelity(teacher, outputs)
            | {"SQNR dB": output_levels(teacher, outputs)["SQNR"]},
            seconds=made.seconds,
            size=made.files[0].stat().st_size / (args.shared / "models" / task.file).stat().st_size,
            calibrated=made.calibrated,
            needed=made.needed,
            failed=made.failed,
            told=made.told,
        )


def record_place(task: Task, method: str, args: argparse.Namespace) -> Path:
    """Return where the record of a candidate lies."""
    return Path(args.out / "records" / f"{slug(task.name, method)}.jsonl")


def time_files(tasks: Sequence[Task], args: argparse.Namespace) -> None:
    """Time every candidate against the float file, turn by turn, on one thread."""
    for task in tasks:
        teacher = args.shared / "models" / task.file
        for method in args.methods:
            place = record_place(task, method, args)
            for record in read(place):
                ours = args.out / slug(task.name, method)
                theirs = args.out / f"{ours.name}.0.onnx"
                student = next(ours.glob("*.onnx"), None) if method in OURS else theirs
                if student is None or not student.is_file():
                    continue
                feed = task.read(args.shared / "data").feed(0)
                found = measure_latency(teacher, student, feed, seconds=args.speed_seconds)
                write(place, [dataclasses.replace(record, speed=found.speedup)])
                print(f"{task.name}, {method}: {found.speedup:.2f}x", flush=True)


def assemble(args: argparse.Namespace) -> None:
    """Write the records and the page."""
    made = [r for place in sorted((args.out / "records").glob("*.jsonl")) for r in read(place)]
    records = merge([*read(args.records), *(r for r in made if not r.quick or args.quick)], ORDER)
    if args.quick:
        print(render(records))
        return
    write(args.records, records)
    replace_text(args.into, render(records))


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="models and data")
    parser.add_argument("--out", type=Path, required=True, help="folder of files and records")
    parser.add_argument("--only", nargs="+", choices=ORDER, default=ORDER, metavar="NETWORK")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--budget", default="60s", help="of the default recipe")
    parser.add_argument("--quick", action="store_true", help=f"{FEW} inputs; no page is written")
    parser.add_argument("--again", action="store_true", help="measure what has a record, too")
    parser.add_argument("--lane", type=lane, default="0/1", help="which share, as 0/2")
    parser.add_argument("--speed", action="store_true", help="only time the files that are there")
    parser.add_argument("--speed-seconds", type=float, default=4.0, help="for each file")
    parser.add_argument("--records", type=Path, default=RESULTS / "with_data.jsonl")
    parser.add_argument("--into", type=Path, default=RESULTS / "WITH_DATA.md")
    return parser.parse_args(words)


def main() -> None:
    args = parse()
    (args.out / "records").mkdir(parents=True, exist_ok=True)
    tasks = [task for task in read_tasks(args.shared) if task.name in args.only][args.lane]
    if args.speed:
        time_files(tasks, args)
        tasks = []
    for task in tasks:
        folds: tuple[Fold, ...] = shorten(task.folds, FEW) if args.quick else task.folds
        try:
            for record in measure(dataclasses.replace(task, folds=folds), args):
                write(record_place(task, record.method, args), [record])
                told = record.problem or f"{record.figures} in {record.seconds:.0f} s"
                print(f"{record.network}, {record.method}: {told}", flush=True)
        except Absent as reason:
            print(f"{task.name}: left out: {reason}", flush=True)
    assemble(args)


if __name__ == "__main__":
    main()
