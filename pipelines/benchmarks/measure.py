"""Run every line of a list of measurements, one after another; a list can be resumed.

    measure.py LIST --models FOLDER --data FOLDER --out RUNS [--lane 0/2]
    results.py RUNS --records pipelines/results/measured.jsonl --into PAGE

A list (`pipelines/benchmarks/results.yaml` is one) names input specifications and labeled sets by
model, and runs:

    models:  {NAME: {preprocess: imagenet, data: test.npz}}       preprocess: a preset or a mapping
    runs:    [{models: [NAME, ...], bits: [w4a4], seeds: [0, 1], recipe: ptq, budget: 2m}, ...]

where `effort: quick` may stand instead of a budget. A run whose folder exists is not done again:
`dfqonnx run` leaves it complete or absent. With `--lane 0/2` only the first, third, ... of the runs
are done: one lane a core. Ends with 1 if a run failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Line:
    """One run."""

    model: str
    bits: str
    seed: int
    recipe: str = "default"
    budget: str | None = None
    effort: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [
            self.model,
            self.bits,
            self.recipe,
            f"s{self.seed}",
            self.budget or "",
            self.effort or "",
        ]
        return ".".join(filter(None, parts))


def lines(content: dict[str, Any]) -> list[Line]:
    """Return all runs of a list, seeds outermost: every row has its first seed soon."""
    found = [
        Line(
            model,
            bits,
            seed,
            entry.get("recipe", "default"),
            entry.get("budget"),
            entry.get("effort"),
        )
        for entry in content["runs"]
        for model in entry["models"]
        for bits in entry["bits"]
        for seed in entry["seeds"]
    ]
    if strange := sorted({line.model for line in found} - set(content["models"])):
        raise SystemExit(f"runs name {', '.join(strange)}; not among the models of the list")
    return sorted(found, key=lambda line: line.seed)


def command(line: Line, facts: dict[str, Any], places: argparse.Namespace) -> list[str]:
    """Return the command line of one run."""
    preprocess = facts["preprocess"]
    if isinstance(preprocess, dict):
        file = places.out / f"{line.model}.preprocess.yaml"
        file.write_text(yaml.safe_dump(preprocess), encoding="utf-8")
        preprocess = str(file)
    words = [
        sys.executable, "-m", "dfqonnx", "run",
        "--model", str(places.models / f"{line.model}.onnx"),
        "--bits", line.bits, "--seed", str(line.seed), "--recipe", line.recipe,
        "--preprocess", preprocess, "--eval-data", str(places.data / facts["data"]),
        "--out", str(places.out / line.name), "--quiet", "--json",
    ]  # fmt: skip
    for name, value in (("--budget", line.budget), ("--effort", line.effort)):
        words += [] if value is None else [name, value]
    return words


def lane(text: str) -> slice:
    """Return which runs a lane does, from `0/2`.

    Raises:
        argparse.ArgumentTypeError: it is not that.
    """
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected LANE/LANES, as 0/2 and 1/2")
    return slice(int(index), None, int(count))


def measure(
    todo: list[Line], content: dict[str, Any], places: argparse.Namespace
) -> Iterator[tuple[str, bool]]:
    """Do what is not there yet; yield for each run a line of text, and whether it is there now."""
    for index, line in enumerate(todo, 1):
        folder = places.out / line.name
        if not folder.exists():
            began = time.perf_counter()
            words = command(line, content["models"][line.model], places)
            done = subprocess.run(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            if done.returncode:
                why = f"exit {done.returncode}: {done.stderr.strip()}"
                yield f"{index}/{len(todo)} {line.name}: {why}", False
                continue
            took = f"{time.perf_counter() - began:.0f} s"
        else:
            took = "there already"
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        drop = (report.get("drop") or {}).get("points", {}).get("value")
        yield f"{index}/{len(todo)} {line.name}: drop {drop}, {took}", True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("list", type=Path, help="a YAML file, see above")
    for name, what in (("models", "float models"), ("data", "labeled sets"), ("out", "runs")):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"folder of {what}")
    parser.add_argument("--lane", type=lane, default="0/1", help="which share of the runs, as 0/2")
    places = parser.parse_args()
    content = yaml.safe_load(places.list.read_text(encoding="utf-8"))
    places.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for text, good in measure(lines(content)[places.lane], content, places):
        print(text, flush=True)
        failed += not good
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
