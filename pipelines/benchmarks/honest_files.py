"""Every honest file beside the repository, quantized twice, on inputs that no run saw.

    honest_files.py [--shared ../shared] [--only NAME ...] [--budget 30s]
    honest_files.py --page                  # only the page, from the records that are there

Each file goes through W8A8 with recipe ptq and W4A8 within the budget. Float and quantized file are
then run on fresh probe images, half of them with text for readers of text, or on structured fields
for what is no image; no seed of a run makes them. `pipelines/results/honest_files.jsonl` keeps a
line for each student, which is not made again, and `HONEST_FILES.md` is the table of them.

    SQNR = 10 log10(sum (t - mean t)^2 / sum (t - s)^2)     of the worst real output
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tables.records import read_lines, replace_text

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.recipe import read_recipe
from dfqonnx.config.request import parse_duration
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.data.text_images import mix_in_text
from dfqonnx.errors import DfqError
from dfqonnx.evaluation.outputs import compare_outputs
from dfqonnx.export.closed_files import closed_files
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.report.report import Report
from dfqonnx.runtime.session import Session
from dfqonnx.workflows import run as flow

RESULTS = Path(__file__).parents[1] / "results"
SEED, MOST, VALUES = 987_654_321, 64, 3e7  # of the inputs: their seed, number, and pixels at most
STUDENTS = (("w8a8", "ptq", False), ("w4a8", "default", True))  # bits, recipe, within the budget
HEAD = """# Honest files

Written by `pipelines/benchmarks/honest_files.py`: small files that each show one pattern of an
exporter or of a public bug report, and real files as published. The inputs are synthetic, and no
run saw them. SQNR is of the worst real output, over its variance; *float* counts nodes that
ONNX Runtime runs in float. Seconds are the wall clock of the whole run on a machine that was shared
with other work. A file that has no row was not measured.

| file | bits | SQNR (dB) | same class | size | float | verdict | seconds | why |
| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | --- |
"""


@dataclass(frozen=True)
class HonestFile:
    """A file, and what a user would say of it."""

    path: str  # below the shared folder
    preprocess: str = "imagenet"
    image_size: tuple[int, ...] | None = None
    text: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """One student."""

    name: str
    bits: str
    sqnr_db: float | None = None
    same: float | None = None
    size: float | None = None
    float_nodes: int | None = None
    verdict: str = ""
    seconds: float = 0.0
    why: tuple[str, ...] = field(default=())  # warnings of the report by name, or the refusal


def honest_files(shared: Path) -> list[HonestFile]:
    """Return the small files, then the real ones that are said something of."""
    small = sorted((shared / "cases" / "models").glob("*.onnx"))
    read = "models/third_party/"
    return [
        *(HonestFile(str(path.relative_to(shared)), "raw") for path in small),
        HonestFile(f"{read}ppocr_cls.onnx", "minus-one-one", (48, 192), text=True),
        HonestFile(f"{read}winml_cifar10_cnn.onnx", "minus-one-one"),
        HonestFile(f"{read}cntk_mnist.onnx", "raw"),
        HonestFile(f"{read}stm_mobilenetv2_050_128.onnx", "zero-one"),
        HonestFile(f"{read}fastestdet_coco.onnx", "zero-one"),
        HonestFile(f"{read}ppocr_rec.onnx", "minus-one-one", (48, 320), text=True),
        HonestFile("models/cifar10_resnet20_bn.onnx", "cifar10"),
    ]


def fresh_inputs(inputs: InputFormat, *, text: bool) -> NDArray[np.uint8]:
    """Return pixels (N, H, W, C) that no run makes."""
    rng = np.random.default_rng(SEED)
    count = int(max(4, min(MOST, VALUES // int(np.prod(inputs.image_size)))))
    pixels = make_probe_images(inputs.image_size, rng=rng, count=count, photo=inputs.is_image)
    if text:
        pixels[: count // 2] = mix_in_text(pixels[: count // 2], rng)
    return pixels[:count]


def measure(
    model: NormalizedModel, files: tuple[Path, Path], preprocess: Preprocessing, *, text: bool
) -> tuple[float | None, float | None]:
    """Return SQNR of the worst output and the share of equal classes, on fresh inputs."""
    inputs = InputFormat(preprocess, model.input_shape)
    with closed_files(model.interface, *files) as closed:
        sessions = [Session(path) for path in closed]
        fed = {model.input: inputs.to_tensor(fresh_inputs(inputs, text=text))}
        teacher, student = (session.run_batched(fed) for session in sessions)
        found = compare_outputs(teacher, student, image=model.input_shape)
    levels = [o.sqnr_db for o in found.outputs if o.sqnr_db is not None]
    same = None if found.agreement is None else found.agreement.value
    return min(levels, default=None), same


def make_student(
    file: HonestFile, shared: Path, student: tuple[str, str, bool], budget: float
) -> Record:
    """Quantize one file and measure the result; a refusal is a record too."""
    (bits, recipe, bounded), path = student, shared / file.path
    began = time.perf_counter()
    try:
        model = open_model(path, image_size=file.image_size)
        name = file.preprocess if len(model.input_shape) == 3 else None
        with tempfile.TemporaryDirectory() as folder:
            report = flow.run(
                RunConfig(
                    model=path,
                    quant=QuantizationConfig(BitWidths.parse(bits)),
                    out=Path(folder) / "out",
                    recipe=read_recipe(recipe),
                    preprocess=None if name is None else read_preprocess(name),
                    image_size=file.image_size,
                    budget=budget if bounded else None,
                )
            )
            seconds = time.perf_counter() - began
            assert report.preprocess is not None
            read = Preprocessing.parse(report.preprocess, name=str(report.preprocess["name"]))
            student_file = Path(folder) / "out" / report.student.path
            sqnr, same = measure(model, (path, student_file), read, text=file.text)
    except DfqError as error:
        why = (str(error).splitlines()[0],)
        return Record(name=path.stem, bits=bits, verdict="refused", why=why)
    return describe(report, bits, seconds, (sqnr, same))


def describe(
    report: Report, bits: str, seconds: float, measured: tuple[float | None, float | None]
) -> Record:
    """Return the record of a finished run."""
    audit, size = report.audit, (report.student.bytes, report.teacher.bytes)
    return Record(
        name=Path(report.teacher.path).stem,
        bits=bits,
        sqnr_db=measured[0],
        same=measured[1],
        size=None if not size[0] or not size[1] else size[0] / size[1],
        float_nodes=None if audit is None else len(audit.float_nodes),
        verdict=str(report.verdict),
        seconds=seconds,
        why=tuple(warning.name for warning in report.evidence),
    )


def render(records: list[Record]) -> str:
    """Return the page."""
    lines = []
    for each in records:
        numbers: Mapping[str, float | None] = {
            ".1f": each.sqnr_db, ".1%": each.same, ".2f": each.size, "d": each.float_nodes,
        }  # fmt: skip
        cells = ["" if number is None else format(number, form) for form, number in numbers.items()]
        row = [each.name, each.bits, *cells, each.verdict, f"{each.seconds:.0f}"]
        lines.append(f"| {' | '.join(row)} | {', '.join(each.why)} |\n")
    return HEAD + "".join(lines)


def read_all(path: Path) -> list[Record]:
    """Return the records that are there."""
    return read_lines(path, lambda line: Record(**{**line, "why": tuple(line["why"])}), "a file")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="models")
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--budget", default="30s", help="of a student below eight bits")
    parser.add_argument("--again", action="store_true", help="make what has a record, too")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--records", type=Path, default=RESULTS / "honest_files.jsonl")
    parser.add_argument("--into", type=Path, default=RESULTS / "HONEST_FILES.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for file in () if args.page else honest_files(args.shared):
        name = Path(file.path).stem
        if args.only is not None and name not in args.only:
            continue
        for student in STUDENTS:
            known = {(r.name, r.bits): r for r in read_all(args.records)}
            if (name, student[0]) in known and not args.again:
                continue
            record = make_student(file, args.shared, student, parse_duration(args.budget))
            known[name, student[0]] = record
            text = "".join(json.dumps(asdict(each)) + "\n" for each in known.values())
            replace_text(args.records, text)
            print(record, flush=True)
    replace_text(args.into, render(read_all(args.records)))


if __name__ == "__main__":
    main()
