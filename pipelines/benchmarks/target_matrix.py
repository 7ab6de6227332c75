r"""The matrix of docs/targets.md: every target's files in every runtime that brings it proof.

    target_matrix.py --models FOLDER --work FOLDER --records FILE.jsonl --page docs/targets.md \
        --runtime onnxruntime=PYTHON --runtime openvino=PYTHON --runtime onnxruntime-web=MODULES ...

makes students of seven networks at W8A8 and W4A8 without training, loads and runs each in the
runtimes of its target, and writes the page's tables between its two marks. `--runtime` names the
interpreter (for Web: the node_modules) of a runtime's own environment, and may come several times
for several versions; without one for it a runtime is taken from where dfqonnx finds it. Students
and records that are there are not made again. `--speed` measures the speeds of all records anew,
on an idle machine; `--draw` only writes the page. `--images`, `--small-images` and `--text-images`
(for the network that finds text) are the inputs: a folder or npz, procedural ones without them;
they are only measured on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dfqonnx  # noqa: F401 - first: it switches ONNX Runtime's usage records off

# isort: split
import numpy as np
import onnx
from runtimes.matrix_page import draw_page
from runtimes.students import NETWORKS, MadeStudent, made_student, make_students

from dfqonnx.evaluation.target_proof import prove_in_runtime
from dfqonnx.foreign_text import printable
from dfqonnx.runtime.adapters.execute import execute, fix_sizes
from dfqonnx.runtime.adapters.runtimes import (
    RUNTIMES,
    RuntimeAdapter,
    RuntimePlace,
    find_runtime,
)

BITS = ("w8a8", "w4a8")
PORTABLE = ("onnxruntime", "onnxruntime-web", "openvino", "tract", "iree", "tvm")
TARGETS = {  # the runtimes that its files are tried in; none: rules only
    "onnxruntime-cpu": ("onnxruntime",),
    "onnxruntime-cpu-legacy": ("onnxruntime",),
    "onnxruntime-web": ("onnxruntime-web",),
    "onnxruntime-qnn": ("onnxruntime-qnn",),
    "openvino": ("openvino",),
    "portable": PORTABLE,
    "size": ("onnxruntime",),
    "tensorrt": (),
    "vitisai": (),
    "stm32": (),
}
Record = dict[str, Any]


def find_places(given: list[str]) -> list[tuple[RuntimeAdapter, RuntimePlace]]:
    """Return every runtime that is at hand, in the versions that were named."""
    named: dict[str, list[str | None]] = {}
    for text in given:
        name, _, where = text.partition("=")
        named.setdefault(name, []).append(where)
    found = []
    for name in RUNTIMES:
        adapter = RUNTIMES[name]
        for place in named.get(name, [None]):
            at = find_runtime(adapter, place)
            if at is None and place is not None:
                raise SystemExit(f"--runtime {name}={place}: {adapter.title} is not there")
            if at is not None:
                found.append((adapter, at))
    return found


def read_records(path: Path) -> dict[str, Record]:
    """Return the records by their key; the last one of a key counts."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {record["key"]: record for record in map(json.loads, filter(None, lines))}


def write_records(records: dict[str, Record], path: Path) -> None:
    text = "".join(json.dumps(records[key]) + "\n" for key in sorted(records))
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def check(file: Path, shape: tuple[int, ...]) -> str:
    """Return what ONNX's checker and strict shape inference say of a file; nothing if they pass."""
    try:
        proto = onnx.load(file)
        onnx.checker.check_model(proto, full_check=True)
        fixed = fix_sizes(proto, shape)
        onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return printable(" ".join(str(error).split()), most=200)
    return ""


def describe_file(key: str, student: MadeStudent | str, teacher: Path) -> Record:
    """Return the record of a file that no runtime was asked about."""
    if isinstance(student, str):
        return {"key": key, "refused": student}
    return {
        "key": key,
        "checker": check(student.file, (1, *student.inputs.shape[1:])),
        "bytes": student.file.stat().st_size,
        "float_bytes": teacher.stat().st_size,
    }


def prove(
    key: str, target: str, runtime: tuple[RuntimeAdapter, RuntimePlace], *, files: MadeStudent,
    teacher: Path, seconds: float,
) -> Record:  # fmt: skip
    """Return the record of a file in a runtime."""
    proof = prove_in_runtime(
        runtime, (teacher, files.file), files.inputs, target=target, trained=files.trained,
        turn_seconds=seconds,
    ).proof  # fmt: skip
    return {"key": key, **asdict(proof), "load": os.getloadavg()[0]}


def time_again(
    record: Record, runtime: tuple[RuntimeAdapter, RuntimePlace], files: MadeStudent,
    *, teacher: Path, seconds: float,
) -> Record:  # fmt: skip
    """Return the record with its speed measured anew."""
    adapter, place = runtime
    done = execute(
        adapter, place, files.file, files.inputs[:1][None], teacher=teacher, seconds=0,
        turn_seconds=seconds,
    )  # fmt: skip
    if not len(done.turns):
        return record
    speedup = float(np.median(done.turns[:, 0] / done.turns[:, 1]))
    return {**record, "speedup": speedup, "load": os.getloadavg()[0]}


def measure_network(
    name: str, places: list[tuple[RuntimeAdapter, RuntimePlace]], records: dict[str, Record],
    options: argparse.Namespace,
) -> Iterator[Record]:  # fmt: skip
    """Yield the records of a network that are not there yet, or whose speed is asked for again."""
    network = NETWORKS[name]
    wanted = {
        (t, b): options.work / f"{name}.{t}.{b}" for t in options.targets for b in options.bits
    }
    if not options.speed:
        images = options.small_images if network.is_small else options.images
        images = options.text_images if network.reads_text else images
        for target, bits in make_students(network, options.models, wanted, images):
            print(f"made {name} for {target} at {bits}", flush=True)
    teacher = options.models / network.file
    for (target, bits), folder in wanted.items():
        if not folder.is_dir():
            continue
        student, key = made_student(folder), f"{name} {target} {bits}"
        if key not in records:
            yield describe_file(key, student, teacher)
        if isinstance(student, str):
            continue
        for adapter, place in places:
            if adapter.name not in TARGETS[target] or adapter.name not in options.only:
                continue
            one = f"{key} {adapter.name} {place.version}"
            if options.speed and one in records and records[one]["speedup"] is not None:
                yield time_again(records[one], (adapter, place), student, teacher=teacher,
                                 seconds=options.seconds)  # fmt: skip
            elif not options.speed and one not in records:
                yield prove(one, target, (adapter, place), files=student, teacher=teacher,
                            seconds=options.seconds)  # fmt: skip


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME=PLACE")
    parser.add_argument("--only", nargs="+", default=list(RUNTIMES), choices=list(RUNTIMES))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--bits", nargs="+", default=list(BITS))
    parser.add_argument("--images", type=Path)
    parser.add_argument("--small-images", type=Path)
    parser.add_argument("--text-images", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="for timing a pair of files")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--draw", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    records = read_records(options.records)
    if not options.draw:
        places = find_places(options.runtime)
        for name in options.networks:
            for record in measure_network(name, places, records, options):
                records = {**read_records(options.records), record["key"]: record}
                write_records(records, options.records)
                print(
                    record["key"], record.get("failure") or record.get("refused") or "", flush=True
                )
    if options.page is not None:
        draw_page(options.page, records, TARGETS)


if __name__ == "__main__":
    main(sys.argv[1:])
