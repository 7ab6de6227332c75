"""Measuring files that are there already: `evaluate` and `compare`. Needs no torch.

Both are the commands `validate` and `compare` as functions: everything is an argument, and what
comes back are values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfqonnx.config.commands import CompareConfig
from dfqonnx.config.measuring import read_measuring
from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.request import Gates, ImageSize, Inputs, validate_request
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.core.progress_bars import show_progress
from dfqonnx.report.comparison import ComparisonTable
from dfqonnx.report.html.comparison_page import check_page, write_page
from dfqonnx.report.report import Report
from dfqonnx.workflows import compare as comparing
from dfqonnx.workflows import validate as validating


def evaluate(
    teacher: str | Path,
    student: str | Path,
    *,
    preprocess: str | Path | Preprocessing | None = None,
    eval_data: str | Path | None = None,
    images: str | Path | None = None,
    metric: str | None = None,
    head: str | None = None,
    fit: str | None = None,
    pixel_range: str | None = None,
    classes: str | Path | None = None,
    gates: Gates = (),
    strict: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    image_size: ImageSize = None,
    inputs: Inputs = (),
    progress: Progress | None = None,
) -> Report:
    """Measure a quantized file against its float teacher; a gate that fails raises nothing.

    Args:
        teacher: the float ONNX file.
        student: the quantized ONNX file, of any origin.
        preprocess: preset, YAML file or `Preprocessing`; None reads the files or guesses.
        eval_data: what to measure on (npz, folder, tar, COCO json, wav, ...).
        images: a few dozen real images without labels, for the estimated drop.
        metric: a measure of your own, "FILE.py:FUNCTION"; gates may hold the names it returns.
        head: how a detector's outputs become boxes, or "ctc"; None finds one by shape.
        fit: how images are brought to the model's size: "crop", "stretch", "letterbox", "pad".
        pixel_range: of output pictures, such as "0:255"; None finds a usual one.
        classes: a file with the names of the model's classes, in order.
        gates: rules for the result, such as "drop<=1.0".
        strict: whether everything but a pass counts as a failure, in `exit_code`.
        out: a folder for the reports; None writes none.
        seed: of procedural images.
        image_size: where the model leaves it open: "240x320", (240, 320), or one number.
        inputs: values of inputs that are no image, by name.
        progress: told of every stage; None draws bars in terminals and notebooks.

    Raises:
        UsageError: an argument cannot be read, or files and data do not fit each other.
        UnsupportedModel: dfqonnx cannot read the teacher.
        EnvironmentProblem: ONNX Runtime is missing.
    """
    config = validate_request(
        teacher, student, preprocess=preprocess, eval_data=eval_data, images=images, gates=gates,
        strict=strict, out=out, seed=seed, image_size=image_size, inputs=inputs,
        measuring=read_measuring(metric, head, fit, pixel_range, classes=classes),
    )  # fmt: skip
    with show_progress(progress) as shown:
        return validating.validate(config, progress=shown)


def compare(
    students: Sequence[str | Path],
    *,
    teacher: str | Path | None = None,
    preprocess: str | Path | Preprocessing | None = None,
    eval_data: str | Path | None = None,
    classes: str | Path | None = None,
    out: str | Path | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> ComparisonTable:
    """Measure several quantized files, or runs, against one float file on the same images.

    Args:
        students: output folders of runs, or ONNX files of any origin.
        teacher: the float file; None takes the one that all reports name.
        preprocess: preset, YAML file or `Preprocessing`; None reads the files or guesses.
        eval_data: labeled images; None takes procedural ones.
        classes: a file with the names of the model's classes, in order.
        out: a page to write, such as "compare.html"; None writes none.
        threads: of ONNX Runtime during timing.
        seed: of procedural images.
        progress: told of every stage; None draws bars in terminals and notebooks.

    Raises:
        UsageError: a path is wrong, or the teacher is unknown.
        UnsupportedModel: dfqonnx cannot read the teacher.
        EnvironmentProblem: ONNX Runtime is missing.
    """
    if not (preprocess is None or isinstance(preprocess, Preprocessing)):
        preprocess = read_preprocess(str(preprocess))
    config = CompareConfig(
        students=tuple(Path(student) for student in students),
        teacher=None if teacher is None else Path(teacher),
        preprocess=preprocess,
        eval_data=None if eval_data is None else Path(eval_data),
        classes=None if classes is None else Path(classes),
        seed=seed,
        threads=threads,
    )
    page = None if out is None else Path(out)
    if page is not None:
        check_page(page)
    with show_progress(progress) as shown:
        table = comparing.compare(config, progress=shown)
    if page is not None:
        write_page(table, page)
    return table
