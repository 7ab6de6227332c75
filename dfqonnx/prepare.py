"""What a run settles before it begins: device, input specification, evaluation data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dfqonnx.convert.program import Program
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.graph.model import Model
from dfqonnx.progress import Progress
from dfqonnx.spec.inputs import METADATA_KEY, InputSpec
from dfqonnx.spec.run import Device
from dfqonnx.validate.data import EvalData, load_eval_data
from dfqonnx.validate.pixels import image_shape


@dataclass(frozen=True)
class Inputs:
    """How pixels become the model's tensor, and who says so.

    Attributes:
        spec: the specification.
        guessed: whether nobody said and dfqonnx guessed.
    """

    spec: InputSpec
    guessed: bool


def choose_device(wanted: Device) -> str:
    """Return where torch works.

    Raises:
        EnvironmentProblem: CUDA was asked for and is not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise EnvironmentProblem(
            "--device cuda: torch finds no CUDA device; check `dfqonnx doctor`, or use --device cpu"
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def settle_inputs(
    asked: InputSpec | None,
    model: Model,
    teacher: Program,
    *,
    metadata: Mapping[str, str],
    progress: Progress,
) -> Inputs:
    """Take what the user asked, else what a file's metadata say, else a guess with a warning."""
    if asked is not None:
        return Inputs(asked.fitted(model.input_shape), guessed=False)
    if METADATA_KEY in metadata:
        values = json.loads(metadata[METADATA_KEY])
        return Inputs(InputSpec.parse(values, name="metadata"), guessed=False)
    spec = _guess(model.input_shape)
    progress.warn(
        f"--preprocess was not given; {spec.name} is assumed (scale {spec.scale:g}, mean"
        f" {_numbers(spec.mean)}, std {_numbers(spec.std)}, {spec.layout}, {spec.channels}). If the"
        " model was trained otherwise, say so: results depend on it."
    )
    return Inputs(spec, guessed=True)


def open_eval_data(path: Path | None, model: Model, inputs: InputSpec) -> EvalData | None:
    """Open labelled images and check that they fit the model, before anything slow.

    Raises:
        UsageError: they do not.
    """
    if path is None:
        return None
    return load_eval_data(path, image_shape(model.input_shape, inputs), classes(model))


def classes(model: Model) -> int | None:
    """Return how many classes the output has; None where it has no (N, K) form."""
    shape = model.contract.outputs[0].shape
    last = shape[-1] if shape is not None and len(shape) == 2 else None
    return last if isinstance(last, int) and last > 0 else None


def _guess(shape: tuple[int, ...]) -> InputSpec:
    """Read the layout off the shape, and take pixels to about -2..2."""
    last = len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3)
    channels = 1 if len(shape) != 3 else shape[-1] if last else shape[0]
    return InputSpec(
        "guess",
        255.0,
        (0.5,),
        (0.25,),
        "NHWC" if last else "NCHW",
        "gray" if channels == 1 else "RGB",
    )


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
