"""Which measures a pair of files gets: by its outputs, its labels, and what the user asks for.

    --metric            the user's function, beside the others
    a detector's head   boxes; its outputs are then not measured as plain numbers
    every other output  (N, K) classes; planes at the input's size masks or pictures; (N, T, C) with
                        a list of characters texts; all other real numbers values

One plane of probabilities at the size of a picture with three channels is a mask of two classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dfqonnx.data.label_types import BoxLabels, Labels, MaskLabels, TextLabels, ValueLabels
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.heads.choose_head import (
    ChosenHead,
    explain_no_head,
    find_head,
    require_head,
)
from dfqonnx.evaluation.heads.head import Frame, all_probabilities
from dfqonnx.evaluation.measures.box_measures import BoxTally
from dfqonnx.evaluation.measures.class_measures import ClassTally
from dfqonnx.evaluation.measures.custom_metric import CustomMetric, CustomTally
from dfqonnx.evaluation.measures.mask_measures import MaskTally, find_mask_size
from dfqonnx.evaluation.measures.picture_measures import PictureTally, Range
from dfqonnx.evaluation.measures.task_measure import TaskTally
from dfqonnx.evaluation.measures.text_measures import TextTally, read_characters
from dfqonnx.evaluation.measures.value_measures import ValueTally
from dfqonnx.evaluation.outputs import Array, Outputs, output_axis, output_kind

CTC = "ctc"  # `--head ctc` reads an output (N, T, C) as text


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What the user asks of the measures.

    Attributes:
        head: the name of a decoder, or `ctc`; None finds one by shape.
        metric: a function of the user's.
        pixel_range: of output pictures; None finds a usual one by the values.
    """

    head: str | None = None
    metric: CustomMetric | None = None
    pixel_range: Range | None = None


@dataclass(frozen=True, kw_only=True)
class OutputContext:
    """What is known of the outputs beside their values.

    Attributes:
        shape: the model's input without the batch axis.
        frame: its height and width where it reads images, else None.
        metadata: of the float model's file.
        labels: of the inputs, where there are some.
    """

    shape: tuple[int, ...]
    frame: Frame | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None


@dataclass(frozen=True)
class ChosenTallies:
    """The tallies of a pair, and one sentence on each choice that a user may want to know."""

    tallies: tuple[TaskTally, ...]
    notes: tuple[str, ...] = ()
    head: ChosenHead | None = None


def choose_tallies(
    teacher: Outputs, student: Outputs, context: OutputContext, options: MeasureOptions
) -> ChosenTallies:
    """Return what measures outputs like these, which are those of a first batch.

    Raises:
        UsageError: the head that was asked for cannot decode them, or labels fit no output.
    """
    custom: list[TaskTally] = []
    if options.metric is not None:
        custom.append(CustomTally(options.metric, context.labels))
    chosen = choose_head(teacher, context.frame, options)
    labels = context.labels
    if chosen is not None and context.frame is not None:
        boxes = labels if isinstance(labels, BoxLabels) else None
        if labels is not None and boxes is None and options.metric is None:
            raise UsageError(
                f"--eval-data: the model is a detector (head {chosen.name}), and the labels are no"
                " boxes; give COCO json or YOLO txt, or measure with --metric file.py:function"
            )
        note = f"Boxes are decoded by head {chosen.name!r}: {chosen.reason}."
        return ChosenTallies((BoxTally(chosen, context.frame, boxes), *custom), (note,), chosen)
    found = list(_by_output(teacher, student, context, options))
    takers = [tally for tally in found if getattr(tally, "labels", None) is not None]
    if labels is not None and not takers and options.metric is None:
        raise UsageError(f"--eval-data: {_explain_unused(labels)}")
    return ChosenTallies((*found, *custom))


def choose_head(
    outputs: Outputs, frame: Frame | None, options: MeasureOptions
) -> ChosenHead | None:
    """Return the head of a detector that reads images of `frame`; None where it is none."""
    if options.head == CTC:
        return None
    if options.head is not None:
        if frame is None:
            raise UsageError(f"--head {options.head}: the model reads no images")
        return require_head(options.head, outputs, frame)
    return None if frame is None else find_head(outputs, frame)


def _by_output(
    teacher: Outputs, student: Outputs, context: OutputContext, options: MeasureOptions
) -> Iterable[TaskTally]:
    """Yield what measures each output; the first one of a task takes the labels."""
    for name, first in teacher.items():
        second = student.get(name)
        if second is None or first.shape != second.shape or not first.size:
            continue
        tally = _choose_one(name, first, context, options)
        if tally is not None:
            yield tally
            if getattr(tally, "labels", None) is not None:
                context = replace(context, labels=None)


def _choose_one(
    name: str, output: Array, context: OutputContext, options: MeasureOptions
) -> TaskTally | None:
    labels = context.labels
    if output.ndim == 3 and output.dtype.kind == "f":
        characters = read_characters(context.metadata, output.shape[2])
        texts = labels if isinstance(labels, TextLabels) else None
        if characters is not None or options.head == CTC:
            return TextTally(name, characters, texts)
    kind, axis = output_kind(output, context.shape), output_axis(output, context.shape)
    values = labels.values if isinstance(labels, ValueLabels) else None
    if values is not None and (kind in {"classes", "image"} or output.dtype.kind == "f"):
        _check_sizes(name, output, values)
    if kind == "classes":
        classes = labels if isinstance(labels, np.ndarray) else None
        return ClassTally(name, classes) if values is None else ValueTally(name, values)
    if _is_mask(output, kind, context):
        return MaskTally(name, axis, _mask_labels(labels))
    if kind == "image":
        return PictureTally(name, axis, pixel_range=options.pixel_range, labels=values)
    return ValueTally(name, values) if output.dtype.kind == "f" else None


def _check_sizes(name: str, output: Array, values: Array) -> None:
    """Refuse labels that have other entries for an input than the output.

    Raises:
        UsageError: names both shapes.
    """
    if values.shape[1:] != output.shape[1:] and values[0].size != output[0].size:
        raise UsageError(
            f"--eval-data: the labels have the shape {values.shape[1:]} for every input, and output"
            f" {name} has {output.shape[1:]}"
        )


def _is_mask(output: Array, kind: str, context: OutputContext) -> bool:
    if kind == "mask" or (kind == "labels" and find_mask_size(output.shape) is not None):
        return True
    if output.ndim != 4 or output.dtype.kind != "f":
        return False
    if _mask_labels(context.labels) is not None:
        return True
    frame = context.frame
    is_plane = kind == "image" and 1 in {output.shape[1], output.shape[3]}
    colored = len(context.shape) == 3 and 3 in {context.shape[0], context.shape[-1]}
    return (
        is_plane
        and colored
        and frame is not None
        and output.size == len(output) * frame[0] * frame[1]
        and all_probabilities(output)
    )


def _mask_labels(labels: Labels | None) -> MaskLabels | None:
    if labels is None or isinstance(labels, (np.ndarray, BoxLabels, TextLabels, ValueLabels)):
        return None
    return labels


def _explain_unused(labels: Labels) -> str:
    if isinstance(labels, BoxLabels):
        return f"the labels are boxes, and {explain_no_head()}"
    if isinstance(labels, TextLabels):
        return (
            "the labels are texts, and no output (N, steps, characters) has its characters in the"
            " model's metadata key 'character'; measure with --metric file.py:function"
        )
    kind = "classes" if isinstance(labels, np.ndarray) else "masks"
    kind = "values" if isinstance(labels, ValueLabels) else kind
    return (
        f"the labels are {kind}, and no output of the model is of that form; give labels that fit,"
        " or measure with --metric file.py:function"
    )
