"""A measure of the user's own: `--metric FILE.py:FUNCTION`.

    def wer(outputs, labels):
        return {"wer": ..., "cer": ...}

`outputs` maps each output's name to an array, inputs first. `labels` is None without labels, else
    classes   integers (N,)
    boxes     for each image (n, 5): left, top, right, bottom, class, in pixels of the model's input
    masks     integers (N, H, W), -1 where a pixel does not count
    texts     a list of str
    values    an array, inputs first
The function is called for the float model and for the student. More is better, unless the file
says otherwise: LOWER_IS_BETTER = ("wer", "cer").
"""

from __future__ import annotations

import importlib.util
import math
import numbers
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfqonnx.data.label_types import BoxLabels, Labels, TextLabels, ValueLabels
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.outputs import Array, Outputs

FLAG = "--metric"
DIRECTIONS = "LOWER_IS_BETTER"
_NAME = re.compile(r"[A-Za-z_]\w{0,63}")
_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class CustomMetric:
    """A function from a file; `lower` names the numbers of which less is better."""

    text: str  # as it was given
    path: Path
    function: Callable[[Mapping[str, Array], Any], Any]
    lower: frozenset[str]

    def measure(self, outputs: Outputs, labels: Labels | None) -> dict[str, float]:
        """Call the function; return its numbers.

        Raises:
            UsageError: it fails, or returns anything but named finite numbers.
        """
        try:
            found = self.function(dict(outputs), to_plain(labels))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code raises anything
            raise UsageError(f"{FLAG} {self.text}: {_locate(error, self.path)}") from None
        return _check_numbers(found, self.text)


def load_metric(text: str) -> CustomMetric:
    """Load the function that `FILE.py:FUNCTION` names.

    Raises:
        UsageError: no such file or function, or the file cannot be run; the line is named.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place.endswith(".py") or not name.isidentifier():
        raise UsageError(f"{FLAG} {text}: write FILE.py:FUNCTION, such as metrics.py:wer")
    path = Path(place)
    if not path.is_file():
        raise UsageError(f"{FLAG} {text}: no such file {place}")
    spec = importlib.util.spec_from_file_location(f"dfqonnx_metric_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # for files that it imports, now or when it is called
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code raises anything
        raise UsageError(f"{FLAG} {text}: {_locate(error, path)}") from None
    function = getattr(module, name, None)
    if not callable(function):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        listed = ", ".join(known) or "none"
        raise UsageError(f"{FLAG} {text}: {place} has no function {name!r} (it has {listed})")
    lower = getattr(module, DIRECTIONS, ())
    if isinstance(lower, str) or not all(isinstance(each, str) for each in lower):
        raise UsageError(f"{FLAG} {text}: {DIRECTIONS} in {place} must be a tuple of names")
    return CustomMetric(text, path, function, frozenset(lower))


def to_plain(labels: Labels | None) -> Any:
    """Return labels as arrays and lists."""
    if labels is None or isinstance(labels, np.ndarray):
        return labels
    if isinstance(labels, BoxLabels):
        return [np.column_stack([each.boxes, each.classes]) for each in labels.images]
    if isinstance(labels, TextLabels):
        return list(labels.texts)
    return labels.values if isinstance(labels, ValueLabels) else labels.read_masks(0, len(labels))


class CustomTally:
    """Keeps all outputs, and asks the user's function at the end."""

    def __init__(self, metric: CustomMetric, labels: Labels | None) -> None:
        self.metric, self.labels = metric, labels
        self.parts: list[tuple[Outputs, Outputs]] = []

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Keep a batch of outputs."""
        self.parts.append((teacher, student))

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return a measure for each number that the function returns.

        Raises:
            UsageError: it fails, or returns other names for the student than for the float model.
        """
        teacher, student = (_join([pair[k] for pair in self.parts]) for k in (0, 1))
        first = self.metric.measure(teacher, self.labels)
        second = self.metric.measure(student, self.labels)
        if first.keys() != second.keys():
            odd = sorted(first.keys() ^ second.keys())
            raise UsageError(
                f"{FLAG} {self.metric.text}: it returned {odd[0]!r} for one of the two models only"
            )
        count = max((len(array) for array in teacher.values()), default=0)
        return tuple(
            TaskMeasure(
                name=name,
                task="custom",
                truth="labels",
                teacher=first[name],
                student=second[name],
                higher_is_better=name not in self.metric.lower,
                n=count,
                meaning=f"what {self.metric.text} returns for {count:,} inputs",
            )
            for name in first
        )


def _join(parts: list[Outputs]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_numbers(found: object, text: str) -> dict[str, float]:
    if not isinstance(found, Mapping) or not found:
        raise UsageError(
            f"{FLAG} {text}: it returned {_brief(found)}; expected a dict of named numbers, such as"
            " {'wer': 0.05}"
        )
    numbered: dict[str, float] = {}
    for name, value in found.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{FLAG} {text}: it returned a number called {_brief(name)}; names are letters,"
                " digits and underscores, so that a gate can hold them"
            )
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        is_number = isinstance(value, (numbers.Real, np.number)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise UsageError(f"{FLAG} {text}: {name} is {_brief(value)}; expected a finite number")
        numbered[name] = float(value)
    return numbered


def _locate(error: BaseException, path: Path) -> str:
    """Return `FILE:LINE: ERROR`, the last line of the user's file that took part."""
    where = path.resolve()
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == path:
        line = error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).resolve() == where:
            line = frame.lineno
    at = str(path) if line is None else f"{path}:{line}"
    words = " ".join(str(error).split()) or "no message"
    return f"{at}: {type(error).__name__}: {words}"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
