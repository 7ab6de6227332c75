"""What a run or a validation measures: the user's wishes resolved, and checked before slow work."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig, ValidateConfig
from dfqonnx.config.gates import GateRule
from dfqonnx.config.measuring import MeasuringConfig
from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.own_images import read_own_images
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.errors import UsageError, did_you_mean
from dfqonnx.evaluation.evaluate import EvaluationData
from dfqonnx.evaluation.heads.choose_head import ORDER
from dfqonnx.evaluation.measures.check_measures import INPUTS, check_measures
from dfqonnx.evaluation.measures.choose_tallies import CTC, MeasureOptions
from dfqonnx.evaluation.measures.custom_metric import load_metric
from dfqonnx.export.closed_files import closed_files
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.workflows.resolve_inputs import open_eval_data, read_real_images


def load_options(config: MeasuringConfig) -> MeasureOptions:
    """Return the options of the measures; the user's file is run.

    Raises:
        UsageError: an unknown head, or a file that cannot be run.
    """
    if config.head is not None and config.head != CTC and config.head not in ORDER:
        known = sorted({*ORDER, CTC})
        raise UsageError(
            f"--head: unknown head {config.head!r}{did_you_mean(config.head, known, label='Heads')}"
        )
    return MeasureOptions(
        head=config.head,
        metric=None if config.metric is None else load_metric(config.metric),
        pixel_range=config.pixel_range,
    )


def open_sets(
    config: RunConfig | ValidateConfig, model: NormalizedModel, inputs: InputFormat
) -> EvaluationData:
    """Open what the files will be compared on, and measure the float model on a little of it.

    Raises:
        UsageError: data, head, function or gates do not fit the model.
    """
    options = load_options(config.measuring)
    sets = EvaluationData(
        inputs=inputs,
        data=open_eval_data(
            config.eval_data,
            model,
            inputs,
            fit=config.measuring.fit,
            options=options,
            class_file=config.measuring.classes,
        ),
        real=read_real_images(config.images, inputs),
        options=options,
        metadata=model.source.metadata,
    )
    with closed_files(model.interface, Path(model.source.path)) as (file,):
        rehearse_measures(file, sets, config.gates, seed=config.seed)
    return sets


def open_run_sets(
    config: RunConfig, model: NormalizedModel, inputs: InputFormat
) -> tuple[EvaluationData, NDArray[np.uint8]]:
    """Open what a run's files are compared on, and the user's own images to work with.

    Returns:
        the sets, of which the held-out own images are the real ones where no others are given; and
        the rest of the own images (N, H, W, C), none where there are none.

    Raises:
        UsageError: data, head, function or gates do not fit the model.
    """
    sets = open_sets(config, model, inputs)
    if config.calibrate_with is None:
        return sets, np.zeros((0, *inputs.image_size), np.uint8)
    own = read_own_images(config.calibrate_with, inputs, seed=config.seed)
    real = own.held_out if sets.real is None else sets.real
    return dataclasses.replace(sets, real=real), own.work


def rehearse_measures(
    model: Path, images: EvaluationData, gates: Sequence[GateRule], *, seed: int
) -> None:
    """Measure the float model on a few inputs, and find every gate's measure among the results.

    Raises:
        UsageError: data, head or function do not fit the model, or a gate names what no measure is.
    """
    pixels = make_probe_images(
        images.inputs.image_size,
        rng=np.random.default_rng(seed),
        count=INPUTS,
        photo=images.inputs.is_image,
    )
    found = check_measures(model, images, pixels)
    custom = [each.name for each in found if each.task == "custom"]
    for rule in gates:
        measure = rule.measure
        if measure is not None and measure.is_custom and measure.name not in custom:
            source = images.options.metric.text if images.options.metric is not None else "--metric"
            raise UsageError(
                f"--gate {rule.text!r}: {source} returns no {measure.name!r}"
                f"{did_you_mean(measure.name, custom, label='It returns')}"
            )
