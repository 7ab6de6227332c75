"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dfqonnx.errors import UsageError
from dfqonnx.targets.profile import DEFAULT_TARGET as DEFAULT_TARGET

FED = "What the model reads"
WORK = "How it is quantized"
MEASURED = "What is measured, and what must hold"
SHOWN = "What is shown and written"
ModelFile = Annotated[
    Path | None,
    typer.Argument(metavar="MODEL", help="The float ONNX file.", show_default=False),
]
Model = Annotated[
    Path | None, typer.Option("--model", "-m", metavar="MODEL", help="Another way to give MODEL.")
]
BitsText = Annotated[
    str,
    typer.Option(
        "--bits",
        "-b",
        metavar="WIDTHS",
        help="Bits of weights and activations, 2 to 8 each: 8 or int8 (w8a8), 4 or int4 (w4a4), "
        "w4 (w4a8: narrow weights, activations at 8), w4a8, w3a6 ..., w8a16 (for targets that "
        "have 16 bits). In [bold]run[/bold], auto looks for those of each layer.",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="How pixels become the model's input: imagenet, cifar10, cifar100, zero-one, "
        "minus-one-one, raw, or a YAML file with scale, mean, std, layout, channels. "
        "Without it the format is guessed, and the guess is printed.",
        rich_help_panel=FED,
    ),
]
EvalData = Annotated[
    Path | None,
    typer.Option(
        "--eval-data",
        metavar="DATA",
        help="What to measure on, never to train on. Classes: a folder for each class, labels.csv, "
        "an npz or npy (images and labels), or parquet. Boxes: COCO json or YOLO txt. Masks: "
        "images/ and masks/. Text lines: a csv with file, text. No images: npz, npy or wav.",
        rich_help_panel=MEASURED,
    ),
]
RealImages = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="A few dozen real images without labels (folder, npz or npy): they make the "
        "estimated drop more precise, and are never trained on.",
        rich_help_panel=MEASURED,
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="The names of the model's classes in order, one a line or JSON, where labels or "
        "folders are names; without it those in the model's metadata, else the labels' own, "
        "sorted, if there are as many as classes.",
        rich_help_panel=MEASURED,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="FILE.py:FUNCTION",
        help="A measure of your own: a function of (outputs, labels) that returns a dict of named "
        "numbers. It is called for both models, and gates may hold its names.",
        rich_help_panel=MEASURED,
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="NAME",
        help="How a detector's outputs become boxes (yolov5, yolov8, yolox, ssd, fastestdet, ...), "
        "or ctc for text; found by the outputs' shapes where it is not given.",
        rich_help_panel=MEASURED,
    ),
]
FitText = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="HOW",
        help="How evaluation images of another size are brought to the model's: crop, stretch, "
        "letterbox or pad. By default what is usual for the task or the detector's head.",
        rich_help_panel=MEASURED,
    ),
]
PixelRangeText = Annotated[
    str | None,
    typer.Option(
        "--pixel-range",
        metavar="LOW:HIGH",
        help="The values of black and white in output pictures, such as 0:255, for PSNR and SSIM; "
        "found by their values where it is not given.",
        rich_help_panel=MEASURED,
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        help="A shipped recipe ([bold]dfqonnx recipes[/bold]) or a YAML file.", rich_help_panel=WORK
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="The scale of a recipe: quick (the default where the recipe has it), paper, or "
        "another that the recipe names.",
        rich_help_panel=WORK,
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="RULE",
        help="A rule that the result must meet, such as 'drop<=1.0', 'agreement>=0.97', "
        "'sqnr>=20', 'map50.drop<=0.01', 'fidelity_miou>=0.95', 'size<=0.2x', 'speedup>=1.8x', "
        "'float_nodes==0', 'top1>=91'; may be given several times. The command ends with 1 if a "
        "gate fails, and still writes every file.",
        rich_help_panel=MEASURED,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="End with 1 unless the verdict is a pass: an inconclusive gate, a larger or slower "
        "file fail as well, and where no gate is about accuracy a usual one is added (drop<=1, "
        "without labels estimated_drop<=2, without classes sqnr>=20).",
        rich_help_panel=MEASURED,
    ),
]
StrictEnds = Annotated[
    int | None,
    typer.Option(
        "--strict-ends",
        help="Weight bits of the first and last layer, such as 8.",
        rich_help_panel=WORK,
    ),
]
CalibrateWith = Annotated[
    Path | None,
    typer.Option(
        "--calibrate-with",
        metavar="IMAGES",
        help="A few unlabeled images of yours (folder, npz, npy or parquet; arrays or wav files "
        "where the model reads no images) that join the synthetic ones; a quarter is held out for "
        "the measures, and the report says so.",
        rich_help_panel=WORK,
    ),
]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-float",
        metavar="NODE",
        help="Nodes to leave in float: a name, a pattern such as 'head*', or an operator such as "
        "Softmax; may be given several times. [bold]dfqonnx inspect --layers[/bold] lists names.",
        rich_help_panel=WORK,
    ),
]
BitsFor = Annotated[
    list[str] | None,
    typer.Option(
        "--bits-for",
        metavar="NODE=WIDTHS",
        help="Other widths for some Conv, Gemm or MatMul, such as 'head*=w8a8', or 16 bits of "
        "activations for any node, 'Add_12=w8a16'; may be given several times, the last one "
        "counts.",
        rich_help_panel=WORK,
    ),
]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Look for the widths of each layer: the smallest file whose top-1 drops by so many "
        "points at most, as estimated without labels. One or two of --max-drop, --max-size and "
        "--min-speed, in place of --bits.",
        rich_help_panel=WORK,
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        help="Look for the widths of each layer: the least loss in at most 0.15x of the float "
        "file's bytes, or 500KiB, 0.5MB.",
        rich_help_panel=WORK,
    ),
]
MinSpeed = Annotated[
    str | None,
    typer.Option(
        "--min-speed",
        metavar="TIMES",
        help="Look for the widths of each layer: the least loss at 1.5x the float speed or more, "
        "in ONNX Runtime on this machine.",
        rich_help_panel=WORK,
    ),
]
WeightStorage = Annotated[
    Literal["auto", "int8"],
    typer.Option(
        help="auto packs weights of 4 bits and fewer as INT4; int8 keeps INT8 containers, "
        "which older ONNX Runtimes load too.",
        rich_help_panel=WORK,
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="HxW",
        help="Height and width of the images, for a model that leaves them open: 240x320, or one "
        "number for both. The exported file leaves them open as well.",
        rich_help_panel=FED,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="The value of an input that is no image: a number, a list such as [320,320], or the "
        "path of an .npy file; may be given several times. Everything is made and measured with "
        "it; a file made with it remembers it.",
        rich_help_panel=FED,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random number.", rich_help_panel=WORK)]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where images and training run.", rich_help_panel=WORK),
]
Target = Annotated[
    str,
    typer.Option(
        help="Runtime that the file is for; [bold]dfqonnx targets[/bold] lists them. A run takes "
        "several, separated by commas, and makes a file and a folder for each.",
        rich_help_panel=WORK,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only warnings and errors.", rich_help_panel=SHOWN),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the result (or the error) as JSON.", rich_help_panel=SHOWN),
]

Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Time limit for the whole run, labeled images aside: 30s, 10m, 1h.",
        rich_help_panel=WORK,
    ),
]
Effort = Annotated[
    Literal["quick", "default", "high"],
    typer.Option(
        "--effort",
        help="How much work images and training take: less for a first look, more where seconds do "
        "not matter.",
        rich_help_panel=WORK,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="The most memory that the run may take: 4GiB, 800MiB. Batches, and if need be images, "
        "shrink to fit. By default what the machine, or the container, has.",
        rich_help_panel=WORK,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Begin anew: neither what an interrupted run left nor images of earlier runs are "
        "used.",
        rich_help_panel=WORK,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Use and keep nothing between runs; an interrupted run then begins anew. "
        "[bold]dfqonnx runs[/bold] shows what is kept.",
        rich_help_panel=WORK,
    ),
]
RunOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Output folder; by default <model>-<bits> in this folder. With a NAME.onnx the model "
        "stands there, and everything else in the folder NAME beside it.",
        rich_help_panel=SHOWN,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Show every measurement and check at the end, not only the most important ones.",
        rich_help_panel=SHOWN,
    ),
]
Layers = Annotated[
    bool,
    typer.Option(
        "--layers", help="List every quantizer, every node in float, and every rewrite left out."
    ),
]
Sensitivity = Annotated[
    bool,
    typer.Option(
        "--sensitivity",
        help="Also measure what every quantizer costs the outputs at each width, on synthetic "
        "images: a minute for small networks.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check everything, show the plan (stages, time, memory, files, rules), and stop.",
        rich_help_panel=SHOWN,
    ),
]
FloatFile = Annotated[
    Path | None,
    typer.Argument(metavar="FLOAT", help="The float ONNX file.", show_default=False),
]
QuantizedFile = Annotated[
    Path | None,
    typer.Argument(metavar="QUANTIZED", help="The quantized ONNX file.", show_default=False),
]
Teacher = Annotated[
    Path | None,
    typer.Option("--teacher", "-t", metavar="FLOAT", help="Another way to give FLOAT."),
]
Student = Annotated[
    Path | None,
    typer.Option("--student", "-s", metavar="QUANTIZED", help="Another way to give QUANTIZED."),
]
ReportOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Also write the reports to this folder, with junit.xml where gates are given.",
        rich_help_panel=SHOWN,
    ),
]


def choose_file(
    given: Path | None, named: Path | None, *, what: str, flag: str, command: str
) -> Path:
    """Return the file that a command was given, by its place or with the option `flag`.

    Raises:
        UsageError: none is given, or two that differ.
    """
    if given is not None and named is not None and given.absolute() != named.absolute():
        raise UsageError(f"{what} is given twice: {given} and {flag} {named}; give it once")
    found = given if given is not None else named
    if found is None:
        raise UsageError(f"{what} is missing. Give it like this: dfqonnx {command} (or as {flag})")
    return found


def choose_model(given: Path | None, named: Path | None, command: str) -> Path:
    """Return the float model that `command` was given, by its place or with `--model`.

    Raises:
        UsageError: none is given, or two that differ.
    """
    return choose_file(given, named, what="the model", flag="--model", command=command)


def choose_pair(
    first: Path | None, second: Path | None, teacher: Path | None, student: Path | None
) -> tuple[Path, Path]:
    """Return the float and the quantized file, each by its place or with its option.

    Raises:
        UsageError: one is missing, or given twice and differs.
    """
    if teacher is not None and second is None:  # the only place left is the second one's
        first, second = None, first
    command = "validate FLOAT.onnx QUANTIZED.onnx"
    return (
        choose_file(first, teacher, what="FLOAT", flag="--teacher", command=command),
        choose_file(second, student, what="QUANTIZED", flag="--student", command=command),
    )
