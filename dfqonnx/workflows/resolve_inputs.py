"""What is resolved before any work: the input format, the evaluation data, the real images.

Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.measuring import Fit
from dfqonnx.config.recipe import Need
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.data.class_labels import read_class_file, read_recorded_classes
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.guess_input_format import (
    USUAL_VALUES,
    InputFormatGuess,
    candidate_formats,
    find_likeliest_scale,
    find_nearest_statistics,
    find_scale_of_values,
    probe_count,
    read_recorded_format,
    value_formats,
)
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.data.task_data import EvalRequest, open_task_data
from dfqonnx.data.unlabeled import open_images
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.drop_estimate.estimate import MOST_REAL
from dfqonnx.evaluation.measures.choose_tallies import MeasureOptions, choose_head
from dfqonnx.export.closed_files import closed_files
from dfqonnx.graph.interface import Interface
from dfqonnx.graph.intermediate_outputs import expose_intermediate_outputs, find_first_layer
from dfqonnx.graph.model import BATCH, NormalizedModel
from dfqonnx.graph.passes.edit import get_shape
from dfqonnx.runtime.session import Session


@dataclass(frozen=True)
class ResolvedInputs:
    """How pixels become the model's tensor."""

    format: InputFormat
    guessed: bool  # neither the user nor a file said so


def resolve_inputs(
    asked: Preprocessing | None,
    model: NormalizedModel,
    *,
    metadata: Mapping[str, str],
    seed: int,
    progress: Progress,
    refine: Callable[[InputFormatGuess], InputFormatGuess] = lambda guess: guess,
) -> ResolvedInputs:
    """Take what the user asked for, else what a file's metadata say, else a guess with a warning.

    `refine` may make a better guess of one.

    Raises:
        UsageError: what was asked for does not fit the model.
    """
    _note_open_size(model, progress)
    _note_other_inputs(model.interface, progress)
    if model.contract.reads_pixels:
        return _resolve_raw_pixels(asked, model)
    if asked is not None:
        return ResolvedInputs(_fit(asked, model), guessed=False)
    guess = read_recorded_format(metadata) or refine(guess_input_format(model, seed=seed))
    found = guess.preprocessing
    if not guess.certain:
        progress.warn(
            f"--preprocess was not given, so {found.name!r} is assumed"
            f" ({_describe(InputFormat(found, model.input_shape))}):"
            f" {guess.reason}. If the model was trained with other preprocessing, give it, because"
            " the results depend on it."
        )
    return ResolvedInputs(InputFormat(found, model.input_shape), guessed=not guess.certain)


def _fit(asked: Preprocessing, model: NormalizedModel) -> InputFormat:
    return InputFormat(asked.fitted(model.input_shape), model.input_shape)


def _resolve_raw_pixels(asked: Preprocessing | None, model: NormalizedModel) -> ResolvedInputs:
    shape = model.input_shape
    raw = PRESETS["raw"].fitted(shape)
    if len(shape) == 3 and 1 in {shape[0], shape[-1]} and 3 not in {shape[0], shape[-1]}:
        raw = replace(raw, channels="gray")
    if asked is not None:
        asked = asked.fitted(shape)
        if (asked.scale, set(asked.mean), set(asked.std)) != (1.0, {0.0}, {1.0}):
            raise UsageError(
                f"--preprocess {asked.name}: this model reads integer pixels 0 to 255 and scales"
                " them itself; use --preprocess raw, or leave it out"
            )
        raw = asked
    return ResolvedInputs(_fit(raw, model), guessed=False)


def _note_open_size(model: NormalizedModel, progress: Progress) -> None:
    if model.open_axes:
        size = "x".join(map(str, model.input_shape))
        progress.note(
            f"The model leaves its input size open. Images of {size} are synthesized and measured,"
            " and the exported file leaves it open as well (--image-size sets another size)."
        )


def _note_other_inputs(interface: Interface, progress: Progress) -> None:
    live, fixed = interface.live, interface.held.keys() - interface.live
    if live:
        names = ", ".join(map(repr, sorted(live)))
        progress.note(
            f"Everything is made and measured with the values given for {names}; the exported file"
            " computes with what it is fed."
        )
    if fixed:
        names = ", ".join(map(repr, sorted(fixed)))
        progress.warn(
            f"The values given for {names} decide what the network computes: the exported file has"
            " these inputs, and reads them no more."
        )


def guess_input_format(model: NormalizedModel, *, seed: int) -> InputFormatGuess:
    """Return the likeliest preprocessing of a model that says nothing of it."""
    shape = model.input_shape
    if len(shape) != 3:
        return _guess_values(model, seed=seed)
    formats = candidate_formats(shape)
    usual = formats[0].preprocessing
    if len(formats) == 1:
        return InputFormatGuess(usual, "it is the only preset that fits the input's shape", False)
    size = formats[0].image_size
    count = probe_count(size)
    if not count:
        return InputFormatGuess(
            usual, "it is the usual one, and images of this size are too large to try others", False
        )
    pixels = make_probe_images(size, rng=np.random.default_rng(seed), count=count)
    if model.statistics:
        exposed = expose_intermediate_outputs(model, model.statistics)
        return find_nearest_statistics(exposed, model.statistics, pixels, formats)
    layer = find_first_layer(model)
    if layer is None or not math.isfinite(float(layer.bias.std())):
        return InputFormatGuess(usual, "it is the usual one for an input of this shape", False)
    exposed = expose_intermediate_outputs(model, [layer.output])
    return find_likeliest_scale(exposed, layer.bias, pixels, formats)


def _guess_values(model: NormalizedModel, *, seed: int) -> InputFormatGuess:
    """Return the likeliest values of a model that reads no images."""
    formats = value_formats(model.input_shape)
    size, layer = formats[0].image_size, find_first_layer(model)
    count = probe_count(size)
    if not count or layer is None or not float(layer.bias.std()) > 0:
        return USUAL_VALUES
    pixels = make_probe_images(size, rng=np.random.default_rng(seed), count=count, photo=False)
    exposed = expose_intermediate_outputs(model, [layer.output])
    return find_scale_of_values(exposed, layer.bias, pixels, formats)


def open_eval_data(
    path: Path | None,
    model: NormalizedModel,
    inputs: InputFormat,
    *,
    fit: Fit | None = None,
    options: MeasureOptions | None = None,
    class_file: Path | None = None,
) -> EvalData | None:
    """Open evaluation data and check that they fit the model, before anything slow.

    Raises:
        UsageError: they do not.
    """
    if path is None:
        return None
    count = count_classes(model)
    known = (
        read_recorded_classes(model.source.metadata, count)
        if class_file is None
        else read_class_file(class_file, count)
    )
    request = EvalRequest(
        inputs=inputs,
        classes=count,
        known=known,
        fit=fit,
        detector_fit=partial(_find_detector_fit, model, inputs, options or MeasureOptions()),
    )
    return open_task_data(path, request)


def _find_detector_fit(
    model: NormalizedModel, inputs: InputFormat, options: MeasureOptions
) -> Fit | None:
    """Return how images are usually fitted for the model's detector head; None without one."""
    size = inputs.image_size
    x = inputs.to_tensor(make_probe_images(size, rng=np.random.default_rng(0), count=1))
    with closed_files(model.interface, Path(model.source.path)) as (file,):
        session = Session(file)
    found = choose_head(session.run_batched({session.inputs[0].name: x}), size[:2], options)
    return None if found is None else found.head.fit


def count_classes(model: NormalizedModel) -> int | None:
    """Return the number of classes of the output; None where it is not of the form (N, K)."""
    shape = model.contract.outputs[0].shape
    last = shape[-1] if shape is not None and len(shape) == 2 else None
    return last if isinstance(last, int) and last > 0 else None


def _describe(inputs: InputFormat) -> str:
    found = inputs.preprocessing
    if not inputs.is_image:
        return inputs.describe_values()
    mean, std = ("/".join(f"{value:g}" for value in each) for each in (found.mean, found.std))
    return f"scale {found.scale:g}, mean {mean}, std {std}, {found.layout}, {found.channels}"


def find_available_needs(model: NormalizedModel) -> frozenset[Need]:
    """Return which needs of a recipe a model meets that is to be trained."""
    found: set[Need] = {"student"}
    if model.statistics:
        found.add("statistics")
    shapes = {value.name: get_shape(value) for node in model.ir.graph for value in node.outputs}
    shape = shapes.get(model.logits)
    if shape is not None and len(shape) == 2 and shape[0] == BATCH and shape[1] != 1:
        found.add("classes")
    return frozenset(found)


def read_real_images(path: Path | None, inputs: InputFormat) -> NDArray[np.uint8] | None:
    """Return unlabeled images (N, H, W, C) spread over all that `path` holds; None for None.

    Raises:
        UsageError: missing, empty, of another form, or the model reads no images.
    """
    if path is None:
        return None
    found, count = open_images(path, inputs.image_size)
    chosen = np.linspace(0, count - 1, min(count, MOST_REAL)).astype(int)
    return np.concatenate([found.read(int(at), int(at) + 1) for at in chosen])
