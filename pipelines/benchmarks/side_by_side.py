"""dfqonnx and ONNX Runtime's own quantizer on the same synthetic images, in one table.

    python pipelines/benchmarks/side_by_side.py --model models/resnet20.onnx --preprocess cifar10 \
        --eval-data TEST.npz --out FOLDER [--budget 30m] [--bits w4a4]

Runs `dfqonnx run` with recipe ptq, the default one and (with --budget) a longer schedule; gives the
default run's synthetic images to `onnxruntime.quantization.quantize_static` at 8 bits and with INT4
weights; then compares all files with `dfqonnx compare` on labeled images, and writes the table
with the processor seconds of every candidate to FOLDER/side_by_side.md. Labels only measure; the
seconds of dfqonnx's own candidates include that proof, which their folders keep as report.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dfqonnx  # noqa: F401 - first: it switches ONNX Runtime's usage records off

# isort: split
import numpy as np
import torch
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import (  # type: ignore[import-untyped]
    quant_pre_process,
)

from dfqonnx.config.commands import CompareConfig
from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.request import parse_duration
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths
from dfqonnx.errors import UsageError
from dfqonnx.graph.normalize import open_model
from dfqonnx.report.comparison import ComparedStudent
from dfqonnx.workflows.compare import compare

CALIBRATION, BATCH = 512, 64


@dataclass(frozen=True)
class Made:
    """A candidate: its file or folder, and what it cost."""

    name: str
    path: Path
    processor: float
    wall: float


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Synthetic images as the model reads them, a batch at a time."""

    def __init__(self, model: Path, images: np.ndarray, inputs: Preprocessing) -> None:
        known = open_model(model)
        form = InputFormat(inputs.fitted(known.input_shape), known.input_shape)
        self._name = known.input
        self._batches: Iterator[torch.Tensor] = iter(
            form.to_tensor(part)
            for part in torch.split(torch.from_numpy(images[:CALIBRATION]), BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch.numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--preprocess", required=True)
    parser.add_argument("--eval-data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", default="", help="of the longest run, for example 30m")
    args = parser.parse_args()
    try:
        label = BitWidths.parse(args.bits).label.upper()
        inputs = read_preprocess(args.preprocess)
        if args.budget:
            parse_duration(args.budget)
    except UsageError as error:
        parser.error(str(error))
    for path in (args.model, args.eval_data):
        if not path.exists():
            parser.error(f"{path}: no such file; check the path")
    args.out.mkdir(parents=True, exist_ok=True)
    made = [*ours(args), *runtimes(args, inputs)]
    comparison = compare(
        CompareConfig(
            students=tuple(one.path for one in made),
            teacher=args.model,
            preprocess=inputs,
            eval_data=args.eval_data,
        )
    )
    title = f"### {args.model.stem} at {label}, seed {args.seed}\n"
    table = "\n".join((title, *lines(made, comparison.students)))
    (args.out / "side_by_side.md").write_text(f"{table}\n", encoding="utf-8")
    print(table)


def ours(args: argparse.Namespace) -> Iterator[Made]:
    """Run dfqonnx: without training at 8 bits and below, by default, and for longer."""
    plans = [("ptq-w8a8", "w8a8", ["--recipe", "ptq"]), ("ptq", args.bits, ["--recipe", "ptq"])]
    plans += [("default-w8a8", "w8a8", []), ("default", args.bits, [])]
    if args.budget:
        plans.append((f"budget-{args.budget}", args.bits, ["--budget", args.budget]))
    for name, bits, extra in plans:
        out = args.out / name
        command = [sys.executable, "-m", "dfqonnx", "run", "--model", args.model, "--bits", bits]
        command += ["--preprocess", args.preprocess, "--eval-data", args.eval_data]
        command += ["--seed", args.seed, "--out", out, "--quiet"]
        words = [str(word) for word in (*command, *extra)]
        yield timed(name, out, lambda words=words: subprocess.run(words, check=True))  # type: ignore[misc]


def runtimes(args: argparse.Namespace, inputs: Preprocessing) -> Iterator[Made]:
    """Quantize with ONNX Runtime's own tool on the default run's images."""
    images = np.load(next((args.out / "default" / "synthetic").glob("*.npz")))
    pixels = images[images.files[0]]
    ready = args.out / "preprocessed.onnx"
    quant_pre_process(str(args.model), str(ready))
    for name, weights, method in (
        ("ort-int8-minmax", QuantType.QInt8, CalibrationMethod.MinMax),
        ("ort-int8-percentile", QuantType.QInt8, CalibrationMethod.Percentile),
        ("ort-int4-minmax", QuantType.QInt4, CalibrationMethod.MinMax),
    ):
        path = args.out / f"{name}.onnx"

        def work(path: Path = path, weights: Any = weights, method: Any = method) -> None:
            quantize_static(
                str(ready),
                str(path),
                Reader(args.model, pixels, inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=weights,
                calibrate_method=method,
            )

        yield timed(name, path, work)


def timed(name: str, path: Path, work: Callable[[], object]) -> Made:
    """Do the work; count processor seconds of this process and its children."""
    before, began = processor(), time.perf_counter()
    work()
    return Made(name, path, processor() - before, time.perf_counter() - began)


def processor() -> float:
    """Return the processor seconds spent so far, children included."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def lines(made: list[Made], entries: tuple[ComparedStudent, ...]) -> Iterator[str]:
    """Yield the table."""
    yield (
        "| candidate | drop, points | agreement | processor seconds | wall seconds | size | speed |"
        " float nodes |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for one, entry in zip(made, entries, strict=True):
        cost = f"{one.processor:.0f} | {one.wall:.0f}"
        if entry.report is None:
            yield f"| {one.name} | - | - | {cost} | - | - | {entry.problem} |"
            continue
        report = json.loads(entry.report.to_json())
        size = report["student"]["bytes"] / report["teacher"]["bytes"]
        drop = report["drop"]["points"]["value"]
        agreement = 100 * report["agreement"]["evaluation"]["value"]
        yield (
            f"| {one.name} | {drop:.2f} | {agreement:.2f} % | {cost} | {size:.3f}"
            f" | {report['latency']['speedup']:.2f}x | {len(report['audit']['float_nodes'])} |"
        )


if __name__ == "__main__":
    main()
