"""The measures of the float model alone on the first inputs, before anything slow.

A head that cannot decode, labels that fit no output, and a function of the user's that fails are
found here, and the names of the measures, which gates may hold, are known from here on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.label_types import (
    ArrayMasks,
    BoxLabels,
    Labels,
    TextLabels,
    ValueLabels,
)
from dfqonnx.evaluation.evaluate import EvaluationData
from dfqonnx.evaluation.measures.measure_pair import PairMeasurement
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.runtime.session import Provider, Session

INPUTS = 8


def check_measures(
    model: Path,
    images: EvaluationData,
    probe: NDArray[np.uint8],
    *,
    provider: Provider = "cpu",
) -> tuple[TaskMeasure, ...]:
    """Measure the float model against itself on a few inputs, and return what there is.

    Without evaluation data or real images it is asked on `probe` (N, H, W, C).

    Raises:
        UsageError: labels, head or function do not fit the model.
    """
    session = Session(model, provider=provider)
    labels: Labels | None = None
    if images.data is not None:
        count = min(INPUTS, len(images.data))
        x = images.data.read_tensor(0, count, images.inputs)
        labels = None if images.data.labels is None else first_labels(images.data.labels, count)
    else:
        pixels = probe if images.real is None else images.real
        x = images.inputs.to_tensor(pixels[:INPUTS])
    outputs = session.run_batched({session.inputs[0].name: x})
    measurement = PairMeasurement(images.context(labels), images.options, "evaluation")
    measurement.add(outputs, outputs, 0)
    head = None if measurement.chosen is None else measurement.chosen.head
    if head is not None and images.data is not None and isinstance(images.data.labels, BoxLabels):
        images.data.labels.to_head_classes(head.head.class_count(outputs))  # of all images
    return measurement.result().measures


def first_labels(labels: Labels, count: int) -> Labels:
    """Return the labels of the first `count` inputs."""
    if isinstance(labels, np.ndarray):
        return labels[:count]
    if isinstance(labels, BoxLabels):
        return BoxLabels(labels.images[:count], labels.category_ids)
    if isinstance(labels, TextLabels):
        return TextLabels(labels.texts[:count])
    if isinstance(labels, ValueLabels):
        return ValueLabels(labels.values[:count])
    return ArrayMasks(labels.read_masks(0, count))
