"""What is settled before any work: the input specification and the evaluation data.

The drop that nobody measured: settled for a run and for `dfqonnx validate`. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.recipe import Need
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.data.guess_input_format import (
    NOISE,
    InputFormatGuess,
    candidates,
    find_likeliest_scale,
    find_nearest_statistics,
    make_probes,
    recorded,
)
from dfqonnx.data.labeled import EvalData, load_eval_data
from dfqonnx.data.probe_images import paint_probe_images
from dfqonnx.data.unlabeled import open_images
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.drop_estimate.estimate import MOST_REAL, Estimate, estimate_drop
from dfqonnx.graph.intermediate_outputs import expose_intermediate_outputs, find_first_layer
from dfqonnx.graph.model import NormalizedModel


@dataclass(frozen=True)
class ResolvedInputs:
    """How pixels become the model's tensor, and who says so.

    Attributes:
        format: the specification, and the shape of the model's input.
        guessed: whether nobody said and dfqonnx guessed.
    """

    format: InputFormat
    guessed: bool


def resolve_inputs(
    asked: Preprocessing | None,
    model: NormalizedModel,
    *,
    metadata: Mapping[str, str],
    seed: int,
    progress: Progress,
) -> ResolvedInputs:
    """Take what the user asked, else what a file's metadata say, else a guess with a warning.

    Args:
        asked: from `--preprocess`.
        model: the teacher's graph, which a guess tries out.
        metadata: of the file that may know.
        seed: of the guess.
        progress: told of a guess.

    Raises:
        UsageError: what was asked does not fit the model.
    """
    _tell_size(model, progress)
    if model.contract.reads_pixels:
        return _raw(asked, model)
    if asked is not None:
        return ResolvedInputs(_fitted(asked, model), guessed=False)
    guess = recorded(metadata) or guess_inputs(model, seed=seed)
    spec = guess.preprocessing
    if not guess.certain:
        progress.warn(
            f"--preprocess was not given, so {spec.name!r} is assumed (scale {spec.scale:g}, mean"
            f" {_numbers(spec.mean)}, std {_numbers(spec.std)}, {spec.layout}, {spec.channels}):"
            f" {guess.reason}. If the model was trained with other preprocessing, give it, because"
            " the results depend on it."
        )
    return ResolvedInputs(InputFormat(spec, model.input_shape), guessed=not guess.certain)


def _fitted(asked: Preprocessing, model: NormalizedModel) -> InputFormat:
    return InputFormat(asked.fitted(model.input_shape), model.input_shape)


def _raw(asked: Preprocessing | None, model: NormalizedModel) -> ResolvedInputs:
    spec = PRESETS["raw"].fitted(model.input_shape)
    shape = model.input_shape
    if len(shape) == 3 and 1 in {shape[0], shape[-1]} and 3 not in {shape[0], shape[-1]}:
        spec = replace(spec, channels="gray")
    if asked is not None:
        asked = asked.fitted(model.input_shape)
        if (asked.scale, set(asked.mean), set(asked.std)) != (1.0, {0.0}, {1.0}):
            raise UsageError(
                f"--preprocess {asked.name}: this model reads integer pixels 0 to 255 and scales"
                " them itself; use --preprocess raw, or leave it out"
            )
        spec = asked
    return ResolvedInputs(_fitted(spec, model), guessed=False)


def _tell_size(model: NormalizedModel, progress: Progress) -> None:
    if model.open_axes:
        size = "x".join(map(str, model.input_shape))
        progress.note(
            f"The model leaves its input size open. Images of {size} are synthesized and measured,"
            " and the exported file leaves it open as well (--image-size sets another size)."
        )


def guess_inputs(model: NormalizedModel, *, seed: int) -> InputFormatGuess:
    """Return the likeliest input specification of a model that says nothing of itself."""
    shape = model.input_shape
    if len(shape) != 3:
        return InputFormatGuess(
            NOISE, "the model reads no image, and values between -4 and 4 are usual", False
        )
    formats = candidates(shape)
    usual = formats[0].preprocessing
    if len(formats) == 1:
        return InputFormatGuess(usual, "it is the only preset that fits the input's shape", False)
    size = formats[0].image_size
    count = make_probes(size)
    if not count:
        return InputFormatGuess(
            usual, "it is the usual one, and images of this size are too large to try others", False
        )
    pixels = paint_probe_images(size, rng=np.random.default_rng(seed), count=count)
    if model.statistics:
        opened = expose_intermediate_outputs(model, model.statistics)
        return find_nearest_statistics(opened, model.statistics, pixels, formats)
    layer = find_first_layer(model)
    if layer is None or not math.isfinite(float(layer.bias.std())):
        return InputFormatGuess(usual, "it is the usual one for an input of this shape", False)
    return find_likeliest_scale(
        expose_intermediate_outputs(model, [layer.output]), layer.bias, pixels, formats
    )


def open_eval_data(
    path: Path | None, model: NormalizedModel, inputs: InputFormat
) -> EvalData | None:
    """Open labeled images and check that they fit the model, before anything slow.

    Raises:
        UsageError: they do not.
    """
    if path is None:
        return None
    if not inputs.is_image:
        form = "x".join(map(str, inputs.shape))
        raise UsageError(f"--eval-data {path}: the model's input {form} is no image")
    return load_eval_data(path, inputs.image_size, classes(model))


def classes(model: NormalizedModel) -> int | None:
    """Return how many classes the output has; None where it has no (N, K) form."""
    shape = model.contract.outputs[0].shape
    last = shape[-1] if shape is not None and len(shape) == 2 else None
    return last if isinstance(last, int) and last > 0 else None


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)


def offers(model: NormalizedModel) -> frozenset[Need]:
    """Return what a recipe finds in a model that is to be trained."""
    found: set[Need] = {"student"}
    if model.statistics:
        found.add("statistics")
    shapes = {value.name: value.shape for node in model.ir.graph for value in node.outputs}
    shape = shapes.get(model.logits)
    if shape is not None and len(shape) == 2 and shape[1] != 1:
        found.add("classes")
    return frozenset(found)


def open_real(path: Path | None, inputs: InputFormat) -> NDArray[np.uint8] | None:
    """Return real images (N, H, W, C) without labels, spread over all that `path` holds.

    Args:
        path: folder or npz of `--images`; None gives None.
        inputs: how pixels become the model's input.

    Raises:
        UsageError: missing, empty, of another form, or the model reads no images.
    """
    if path is None:
        return None
    found, count = open_images(path, inputs.image_size)
    chosen = np.linspace(0, count - 1, min(count, MOST_REAL)).astype(int)
    return np.concatenate([found.read(int(at), int(at) + 1) for at in chosen])


def estimate(
    teacher: Path,
    student: Path,
    inputs: InputFormat,
    *,
    real: NDArray[np.uint8] | None = None,
) -> Estimate:
    """Return the estimated drop of a student, or why it cannot be told.

    Args:
        teacher: float file.
        student: quantized file.
        inputs: how pixels become the teacher's input.
        real: images of `open_real`.
    """
    return estimate_drop(teacher, student, inputs=inputs, real=real)
