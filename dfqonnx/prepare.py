"""What a run settles before it begins: device, input specification, evaluation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dfqonnx.convert.program import Program
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.graph.model import Model
from dfqonnx.progress import Progress
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.run import Device
from dfqonnx.synth.guess import guess_inputs
from dfqonnx.synth.pixels import image_size
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
    seed: int,
    progress: Progress,
) -> Inputs:
    """Take what the user asked, else what a file's metadata say, else a guess with a warning.

    Args:
        asked: from `--preprocess`.
        model: the teacher's graph.
        teacher: the teacher in torch, which a guess tries out.
        metadata: of the file that may know.
        seed: of the guess.
        progress: told of a guess.

    Raises:
        UsageError: what was asked does not fit the model.
    """
    if asked is not None:
        spec = asked.fitted(model.input_shape)
        image_size(model.input_shape, spec)  # refuses what cannot fit
        return Inputs(spec, guessed=False)
    guess = guess_inputs(
        teacher, model.statistics, shape=model.input_shape, metadata=metadata, seed=seed
    )
    spec = guess.inputs
    if not guess.certain:
        progress.warn(
            f"--preprocess was not given; {spec.name!r} is assumed (scale {spec.scale:g}, mean"
            f" {_numbers(spec.mean)}, std {_numbers(spec.std)}, {spec.layout}, {spec.channels}):"
            f" {guess.reason}. If the model was trained otherwise, say so: results depend on it."
        )
    return Inputs(spec, guessed=not guess.certain)


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


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
