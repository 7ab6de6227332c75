"""Every honest file beside the repository, quantized twice, on inputs that no run saw.

    honest_files.py [--shared ../shared] [--only NAME ...] [--budget 30s]
    honest_files.py --page                  # only the page, from the records that are there

Each file goes through W8A8 with recipe ptq and W4A8 within the budget. Float and quantized file are
then run on fresh probe images, half of them with text for readers of text, or on structured fields
for what is no image; no seed of a run makes them. `pipelines/results/honest_files.jsonl` keeps a
line for each student, which is not made again, and `HONEST_FILES.md` is the table of them.

    SQNR = 10 log10(sum (t - mean t)^2 / sum (t - s)^2)     of the worst real output

What the bits themselves cost is beside it: SQNR of the float file with the same weights rounded to
nearest, one scale a channel, and nothing else quantized. Random weights vary little with the input,
so that four bits can cost them everything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
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
from dfqonnx.placement.place import place_quantizers
from dfqonnx.report.report import Report
from dfqonnx.runtime.session import Session
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.workflows import run as flow

RESULTS = Path(__file__).parents[1] / "results"
SEED, MOST, VALUES = 987_654_321, 64, 3e7  # of the inputs: their seed, number, and pixels at most
STUDENTS = (("w8a8", "ptq", False), ("w4a8", "default", True))  # bits, recipe, within the budget
HEAD = """# Honest files

Written by `pipelines/benchmarks/honest_files.py`: small files that each show one pattern of an
exporter or of a public bug report, and real files as published. The inputs are synthetic, and no
run saw them. SQNR is of the worst real output, over its variance. *Rounded* is that of the float
file with its weights rounded to nearest and its activations in float: what the bits of the weights
cost by themselves. *Float* counts nodes that ONNX Runtime runs in float. Seconds are the wall clock
of the whole run on a machine that was shared with other work. A file that has no row was not
measured.

Where the indices of a MaxPool are used (segnet_unpool), values that share a code move to other
places: eight bits on that one tensor, and all else in float, give 9.4 dB. Leave the Conv in front
of it in float where that matters (`--keep-float`).

| file | bits | SQNR (dB) | rounded (dB) | same class | size | float | verdict | seconds | why |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- |
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
    rounded_db: float | None = None  # of the float file with its weights rounded to nearest
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


def round_weights(model: NormalizedModel, bits: str, path: Path) -> None:
    """Write the float model with the weights that are quantized at `bits` rounded to nearest."""
    config = QuantizationConfig(BitWidths.parse(bits))
    plan = place_quantizers(model, config, ONNXRUNTIME_CPU, input_signed=True)
    graph = model.ir.clone().graph
    values = {**graph.initializers}
    for each in plan.weights:
        held = values[each.weight].const_value
        assert held is not None
        weight = held.numpy().astype(np.float64)
        others = tuple(axis for axis in range(weight.ndim) if axis != each.axis)
        largest = np.abs(weight).max(axis=others if each.per_channel else None, keepdims=True)
        scale = np.where(largest > 0, largest, 1) / each.grid.hi
        rounded = np.clip(np.rint(weight / scale), each.grid.lo, each.grid.hi) * scale
        values[each.weight].const_value = ir.tensor(rounded.astype(np.float32), name=each.weight)
    ir.save(ir.Model(graph, ir_version=model.ir.ir_version), path)


def measure_rounded(file: HonestFile, shared: Path, bits: str) -> float | None:
    """Return SQNR of a file with its weights rounded to nearest, on the same fresh inputs."""
    path = shared / file.path
    model = open_model(path, image_size=file.image_size)
    preprocess = read_preprocess(file.preprocess if len(model.input_shape) == 3 else "raw")
    inputs = InputFormat(preprocess.fitted(model.input_shape), model.input_shape)
    x = inputs.to_tensor(fresh_inputs(inputs, text=file.text))
    with (
        tempfile.TemporaryDirectory() as folder,
        closed_files(model.interface, path) as (original,),
    ):
        rounded = Path(folder) / "rounded.onnx"
        round_weights(model, bits, rounded)
        session = Session(rounded)  # one by one: some files hold for a batch of 1 only
        each = [session.run_batched({model.input: x[k : k + 1]}) for k in range(len(x))]
        first = Session(original).run_batched({model.input: x})
        second = {name: np.concatenate([one[name] for one in each]) for name in first}
    found = compare_outputs(first, second, image=model.input_shape)
    return min((o.sqnr_db for o in found.outputs if o.sqnr_db is not None), default=None)


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
            "SQNR .1f": each.sqnr_db, "rounded .1f": each.rounded_db, "same .1%": each.same,
            "size .2f": each.size, "float d": each.float_nodes,
        }  # fmt: skip
        cells = [
            "" if number is None else format(number, form.split()[1])
            for form, number in numbers.items()
        ]
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
            there = known.get((name, student[0]))
            if there is None or args.again:
                record = make_student(file, args.shared, student, parse_duration(args.budget))
            elif there.rounded_db is None and there.verdict != "refused":
                record = there
            else:
                continue
            if record.verdict != "refused":
                rounded = measure_rounded(file, args.shared, student[0])
                record = replace(record, rounded_db=rounded)
            known[name, student[0]] = record
            text = "".join(json.dumps(asdict(each)) + "\n" for each in known.values())
            replace_text(args.records, text)
            print(record, flush=True)
    replace_text(args.into, render(read_all(args.records)))


if __name__ == "__main__":
    main()
