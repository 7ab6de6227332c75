"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dfqonnx.targets.profile import DEFAULT_TARGET as DEFAULT_TARGET

Model = Annotated[Path, typer.Option("--model", "-m", help="The float ONNX file.")]
BitsText = Annotated[
    str, typer.Option("--bits", "-b", help="One width for weights and activations (4), or w4a8.")
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        help="How pixels become the model's input: imagenet, cifar10, cifar100, zero-one, "
        "minus-one-one, raw, or a YAML file with scale, mean, std, layout, channels. "
        "Without it the format is guessed, and the guess is printed.",
    ),
]
EvalData = Annotated[
    Path | None,
    typer.Option(
        "--eval-data",
        help="What to measure on, never to train on. Classes: an npz with x (uint8, NHWC) and y, "
        "or a folder or tar with labels.csv. Boxes: COCO json or YOLO txt. Masks: images/ and "
        "masks/. Text lines: a csv with file, text. No images: npz or npy with x, or wav.",
    ),
]
RealImages = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="A few dozen real images without labels (folder or npz with x): they make the "
        "estimated drop more precise, and are never trained on.",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="FILE.py:FUNCTION",
        help="A measure of your own: a function of (outputs, labels) that returns a dict of named "
        "numbers. It is called for both models, and gates may hold its names.",
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="NAME",
        help="How a detector's outputs become boxes (yolov5, yolov8, yolox, ssd, fastestdet, ...), "
        "or ctc for text; found by the outputs' shapes where it is not given.",
    ),
]
FitText = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="HOW",
        help="How evaluation images of another size are brought to the model's: crop, stretch, "
        "letterbox or pad. By default what is usual for the task or the detector's head.",
    ),
]
PixelRangeText = Annotated[
    str | None,
    typer.Option(
        "--pixel-range",
        metavar="LOW:HIGH",
        help="The values of black and white in output pictures, such as 0:255, for PSNR and SSIM; "
        "found by their values where it is not given.",
    ),
]
Recipe = Annotated[
    str, typer.Option(help="A shipped recipe ([bold]dfqonnx recipes[/bold]) or a YAML file.")
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="The scale of a recipe: quick (the default where the recipe has it), paper, or "
        "another that the recipe names.",
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
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="End with 1 unless the verdict is a pass: an inconclusive gate, a larger or slower "
        "file fail as well, and where no gate is about accuracy a usual one is added (drop<=1, "
        "without labels estimated_drop<=2, without classes sqnr>=20).",
    ),
]
StrictEnds = Annotated[
    int | None,
    typer.Option("--strict-ends", help="Weight bits of the first and last layer, such as 8."),
]
WeightStorage = Annotated[
    Literal["auto", "int8"],
    typer.Option(
        help="auto packs weights of 4 bits and fewer as INT4; int8 keeps INT8 containers, "
        "which older ONNX Runtimes load too."
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="HxW",
        help="Height and width of the images, for a model that leaves them open: 240x320, or one "
        "number for both. The exported file leaves them open as well.",
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
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where images and training run."),
]
Target = Annotated[
    str,
    typer.Option(help="Runtime that the file is for; [bold]dfqonnx targets[/bold] lists them."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result (or the error) as JSON.")]
