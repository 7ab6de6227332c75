"""Mixed widths against others of the same bytes, on real inputs with labels.

    mixed_bits_tasks.py [--shared ../shared] [--only NETWORK ...] [--random 1]
    mixed_bits_tasks.py --page              # only the page, from the records that are there

The students are those of `mixed_bits.py` at three sizes, and the uniform ones at both ends. Each is
made by a whole run of `--recipe ptq`, from synthetic images alone, and its file is measured in ONNX
Runtime beside the float file, on inputs that chose nothing:

    resnet20                           top-1 on CIFAR-10's 10,000 test pictures
    mobilenetv1, efficientnet-lite0    top-1 on the ImageNet sample, 1,000 photographs
    fastestdet                         mAP@0.5 and mAP on coco_val128
    candy                              PSNR against the float file's pictures, 12 photographs

`pipelines/results/mixed_bits_tasks.jsonl` keeps a line for each student, which is not made again,
and `MIXED_BITS_TASKS.md` shows them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mixed_bits import ROOT, Bench, foretell, list_students
from realdata.photographs import HALVES, image_format, imagenet_reader, photograph_tasks
from realdata.small_pictures import small_tasks
from realdata.task import Figures, Outputs, RealInputs, Task
from realdata.tasks import run_file

from dfqonnx.config.commands import RunConfig
from dfqonnx.evaluation.drop_estimate.saturating_loss import rank_correlation
from dfqonnx.workflows.run import run

RESULTS = ROOT / "pipelines" / "results"
RECORDS, PAGE = RESULTS / "mixed_bits_tasks.jsonl", RESULTS / "MIXED_BITS_TASKS.md"
SHARES = (0.15, 0.4, 0.75)  # of the way from the smallest uniform size to the largest
NCHW_HALVES = image_format("minus-one-one", 1.0, HALVES.mean[0], HALVES.std[0])
LOST = ("top-1", "mAP@0.5", "mAP")  # figures of labels, told as points below the float file's


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One student: how it was chosen, what was foretold, and what it does on real inputs."""

    network: str
    target: str
    kind: str  # uniform, mixed, random-0 or magnitude
    size: int  # bytes that it may take
    bytes: int
    ratio: float  # over the float file's bytes
    foretold: float  # noise over signal
    figures: Figures  # points lost against labels, or fidelity to the float file
    count: int  # real inputs


def list_tasks(data: Path) -> dict[str, Task]:
    """Return the networks by the names of `mixed_bits.py`, with their real inputs."""
    known = {task.name: task for task in photograph_tasks(data)}
    mobile, lite = known["MobileNetV1 0.25"], known["EfficientNet-Lite0"]
    small = {task.name: task for task in small_tasks()}["ResNet-20"]
    return {
        "resnet20": replace(small, file="cifar10_resnet20_bn.onnx"),
        "mobilenetv1": replace(
            mobile,
            file="imagenet_mobilenetv1_025_bn.onnx",
            read=imagenet_reader(NCHW_HALVES, (3, 224, 224)),
            preprocess=NCHW_HALVES,
        ),
        "efficientnet-lite0": replace(lite, file="efficientnet_lite0_bn.onnx"),
        "fastestdet": known["FastestDet"],
        "candy": known["candy"],
    }


def compare(
    task: Task, real: RealInputs, places: Sequence[int], outputs: tuple[Outputs, Outputs]
) -> Figures:
    """Return what a student, the second, loses against labels, else its fidelity to the float."""
    teacher, student = outputs
    if task.truth is None:
        return task.fidelity(teacher, student)
    whole, found = (task.truth(real, places, own) for own in outputs)
    lost = {f"{name} lost": whole[name] - found[name] for name in found if name in LOST}
    return lost | {name: whole[name] for name in found if name in LOST}


def make_file(config: RunConfig, task: Task, folder: Path) -> Path:
    """Make the student's file by a whole run of `--recipe ptq`; return its path."""
    out = folder / "student"
    asked = replace(config, search=None, preprocess=task.preprocess, out=out, file=None)
    run(asked)
    return out / asked.student_name


def measure(name: str, task: Task, shared: Path, target: str, *, random: int) -> None:
    """Make and measure the students of a network that have no record."""
    known = {(m.network, m.target, m.kind, m.size) for m in read_records()}
    path = shared / "models" / task.file
    bench = Bench(name, path, target)
    real = task.read(shared / "data")
    places = task.tested if task.truth is None else tuple(range(real.count))
    float_outputs = run_file(path, real, places)
    for kind, size, choose in list_students(bench, random, SHARES):
        if (name, target, kind, size) in known:
            continue
        config = choose()
        with tempfile.TemporaryDirectory(prefix="mixed-bits-") as folder:
            file = make_file(config, task, Path(folder))
            taken = file.stat().st_size
            figures = compare(task, real, places, (float_outputs, run_file(file, real, places)))
        made = Measured(
            network=name, target=target, kind=kind, size=size, bytes=taken,
            ratio=taken / path.stat().st_size, foretold=foretell(bench, config), figures=figures,
            count=len(places),
        )  # fmt: skip
        with RECORDS.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(made)) + "\n")
        print(f"{name} {kind} {made.ratio:.3f}: {made.foretold:.3g} -> {figures}", flush=True)


def read_records() -> list[Measured]:
    """Return all students that were measured."""
    if not RECORDS.exists():
        return []
    return [Measured(**json.loads(line)) for line in RECORDS.read_text().splitlines() if line]


def render(records: Sequence[Measured]) -> str:
    """Return the page."""
    lines = [
        "# Mixed widths on real inputs",
        "",
        "Written by `pipelines/benchmarks/mixed_bits_tasks.py`. Students are made by `--recipe ptq`"
        " (seed 0, one run each), without training; *noise* is what was foretold before. On a"
        " processor with VNNI instructions, where 8-bit kernels add exactly (`docs/faq.md`).",
    ]
    for network, target in dict.fromkeys((m.network, m.target) for m in records):
        of_it = [m for m in records if (m.network, m.target) == (network, target)]
        own = [*{(m.kind, m.bytes): m for m in of_it}.values()]  # one that two sizes led to, once
        names = [name for name in own[0].figures if name.endswith("lost")] or [*own[0].figures]
        sign = 1 if names[0].endswith("lost") else -1
        outcomes = [sign * m.figures[names[0]] for m in own]
        rank = rank_correlation([m.foretold for m in own], outcomes)
        lines += [
            "",
            f"## {network}, {target}",
            "",
            f"{own[0].count} inputs. Rank correlation of the noise foretold with {names[0]},"
            f" {len(own)} students: {rank:.2f}.",
            "",
            "| bytes over float | chosen | noise | " + " | ".join(names) + " |",
            "| --- | --- |" + " --- |" * (1 + len(names)),
            *(
                f"| {m.ratio:.3f} | {m.kind.split('-')[0]} | {m.foretold:.3g} | "
                + " | ".join(f"{m.figures[name]:.2f}" for name in names)
                + " |"
                for m in sorted(own, key=lambda m: (m.size, m.kind))
            ),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--target", default="onnxruntime-cpu")
    parser.add_argument("--random", type=int, default=1, help="students chosen at random, a size")
    parser.add_argument("--page", action="store_true")
    asked = parser.parse_args()
    tasks = list_tasks(asked.shared / "data")
    if strange := sorted({*asked.only} - {*tasks}):
        parser.error(f"--only {' '.join(strange)}: the networks are {', '.join(tasks)}")
    for name in () if asked.page else asked.only or tasks:
        measure(name, tasks[name], asked.shared, asked.target, random=asked.random)
    PAGE.write_text(render(read_records()), encoding="utf-8")


if __name__ == "__main__":
    main()
