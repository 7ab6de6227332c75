"""What can be told of a student beforehand, against what real inputs show, over all networks.

    beforehand.py [--shared ../shared] [--only NETWORK ...] [--lane 0/2]
    beforehand.py --page                    # only the page, from the records that are there

Every network of the folder that real inputs are at hand for gets students of several widths, some
of them damaged on purpose (`realdata/students.py`). Each is measured twice against the float file,
by the same figures: on the fixed synthetic inputs that `dfqonnx validate` estimates from, and on
real inputs (at most `--most`). `pipelines/results/beforehand.jsonl` keeps a line for each student,
which is not measured again, and `BEFOREHAND.md` shows what one tells of the other. The table of
students that the product's estimate of agreement is fitted to is written from the same records.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measure import lane
from numpy.typing import NDArray
from realdata.beforehand_page import render
from realdata.more_tasks import FITTED, UNTOLD, all_tasks
from realdata.students import VARIANTS, Variant, input_format, make_student
from realdata.task import Absent, Feed, Figures, Outputs, RealInputs, Task, find, output_levels
from realdata.tasks import run_file
from realdata.told import Told, read, write
from realdata.told_agreement import class_levels, to_known
from tables.records import replace_text

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.data.text_images import is_line_of_text, mix_in_text
from dfqonnx.evaluation.agreement_estimate.known_agreements import (
    TABLE,
    format_known_agreements,
)
from dfqonnx.evaluation.drop_estimate.estimate import Estimate, estimate_losses
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images

RESULTS = Path(__file__).parents[1] / "results"
MOST_VALUES = 2**23  # numbers of all fixed inputs, and of all real ones
MOST, MOST_SMALL = 48, 256  # fixed inputs; of small ones, which cost little
SMALL = 2**12  # numbers of an input
FEWEST = 6


def fixed_inputs(inputs: InputFormat) -> RealInputs:
    """Return the fixed synthetic inputs of a network, evenly from all families."""
    if inputs.is_image:
        families = list(make_fixed_images(inputs.image_size).values())
        pixels = np.stack(families, 1).reshape(-1, *inputs.image_size)  # (N families, H, W, C)
        if is_line_of_text(inputs.image_size):
            pixels = mix_in_text(pixels, np.random.default_rng(20_011))
    else:
        rng = np.random.default_rng(20_011)
        pixels = np.concatenate(list(structured_fields(MOST, inputs.image_size, rng)))
    most = MOST_SMALL if int(np.prod(inputs.shape)) <= SMALL else MOST
    kept: NDArray[np.uint8] = pixels[: limit(inputs, most)]

    def feed(place: int) -> Feed:
        return inputs.to_tensor(kept[place : place + 1])

    return RealInputs(count=len(kept), feed=feed)


def limit(inputs: InputFormat, most: int) -> int:
    """Return how many inputs of a network are run."""
    return max(FEWEST, min(most, MOST_VALUES // int(np.prod(inputs.shape))))


def figures(task: Task, teacher: Outputs, student: Outputs) -> Figures:
    """Return every figure of a student against the float model."""
    return task.fidelity(teacher, student) | output_levels(teacher, student)


def lost(task: Task, real: RealInputs, places: Sequence[int], both: Sequence[Outputs]) -> Figures:
    """Return by how much the student's task figures are less than the float model's."""
    if task.truth is None:
        return {}
    teacher, student = (task.truth(real, places, outputs) for outputs in both)
    return {name: teacher[name] - student[name] for name in teacher}


def estimate(task: Task, model: Path, student: Path, inputs: InputFormat) -> Estimate | None:
    """Return what `dfqonnx validate` estimates; None where the output holds no classes."""
    return estimate_losses(model, student, inputs=inputs).drop if task.kind == "classes" else None


def measure(task: Task, args: argparse.Namespace, known: set[tuple[str, str]]) -> Iterator[Told]:
    """Make and measure the students of a network that have no record yet."""
    todo = [v for v in VARIANTS if (task.name, v.label) not in known or args.again]
    model = find(args.shared / "models" / task.file)
    if not todo:
        return
    inputs = input_format(task, model)
    fixed, real = fixed_inputs(inputs), task.read(args.shared / "data")
    labeled = task.kind == "classes" and task.truth is not None  # a share wants many
    places = task.tested[: args.most if labeled else limit(inputs, args.most)]
    sets = ((fixed, range(fixed.count)), (real, places))
    teachers = [run_file(model, *each) for each in sets]
    for variant in todo:
        yield measure_student(task, variant, args, list(zip(sets, teachers, strict=True)))


def measure_student(
    task: Task,
    variant: Variant,
    args: argparse.Namespace,
    sets: Sequence[tuple[tuple[RealInputs, Sequence[int]], Outputs]],
) -> Told:
    """Return the record of one student."""
    began, model = time.process_time(), args.shared / "models" / task.file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        make_student(task, variant, model, path)
        outputs = [run_file(path, *each) for each, _ in sets]
        is_new = task.name not in FITTED
        form = input_format(task, model)
        found = estimate(task, model, path, form) if is_new else None
        more = class_levels(model, path, form) if task.kind == "classes" else {}
    pairs = [(teacher, student) for (_, teacher), student in zip(sets, outputs, strict=True)]
    ((real, places), teacher) = sets[1]
    told = Told(
        network=task.name,
        student=variant.label,
        kind=task.kind,
        tested=len(places),
        fixed=figures(task, *pairs[0]) | more,
        real=figures(task, *pairs[1]),
        lost=lost(task, real, places, (teacher, outputs[1])),
        seconds=time.process_time() - began,
    )
    if found is None:
        fitted = "the estimate was fitted to this network" if not is_new else ""
        return replace(told, reason=fitted)
    return replace(told, estimate=found.value, low=found.low, high=found.high, reason=found.reason)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="models and data")
    parser.add_argument("--only", nargs="+", default=None, metavar="NETWORK")
    parser.add_argument("--lane", type=lane, default="0/1", help="which share, as 0/2")
    parser.add_argument("--most", type=int, default=500, help="real inputs of a network")
    parser.add_argument("--again", action="store_true", help="measure what has a record, too")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--records", type=Path, default=RESULTS / "beforehand.jsonl")
    parser.add_argument("--table", type=Path, default=TABLE, help="of the estimate of agreement")
    parser.add_argument("--into", type=Path, default=RESULTS / "BEFOREHAND.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tasks = [t for t in all_tasks(args.shared) if args.only is None or t.name in args.only]
    for task in () if args.page else tasks[args.lane]:
        try:
            for told in measure(task, args, {each.key for each in read(args.records)}):
                write(args.records, [*read(args.records), told])
                print(told, flush=True)
        except Absent as reason:
            print(f"{task.name}: left out: {reason}", flush=True)
    records = read(args.records)
    replace_text(args.table, format_known_agreements(to_known(records)))
    replace_text(args.into, render(records, UNTOLD))


if __name__ == "__main__":
    main()
