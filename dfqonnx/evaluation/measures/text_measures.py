"""Lines of text that a recognizer reads: CTC, greedily decoded. N lines, T steps, C classes.

    text       = best class of each step, repeats merged, blanks (class 0) dropped
    characters = 1 - edit distance / length of the truth, over all lines together
    lines      = share of lines that are read without a fault

The characters of classes 1, 2, ... are the lines of the metadata key `character`; one class more
than those and the blank is the space. Without that list texts are compared as class numbers, and
labels cannot be. Blanks at both ends of a text do not count. Edit distances are Levenshtein's, by
rapidfuzz. Source: Graves et al., Connectionist temporal classification (2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rapidfuzz.distance import Levenshtein

from dfqonnx.data.label_types import TextLabels
from dfqonnx.evaluation.bootstrap import Floats, WeightedFigure, redraw
from dfqonnx.evaluation.measures.add_intervals import add_intervals
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth
from dfqonnx.evaluation.outputs import Array, Outputs
from dfqonnx.evaluation.statistics import Interval, paired_drop, wilson_interval

CHARACTER_KEY = "character"
BLANK = 0
Text = str | tuple[int, ...]


def read_characters(metadata: Mapping[str, str], classes: int) -> tuple[str, ...] | None:
    """Return the character of every class, the blank's being empty; None where nobody says.

    A list that does not have as many characters as the head has classes is none.
    """
    if CHARACTER_KEY not in metadata:
        return None
    listed = metadata[CHARACTER_KEY].splitlines()
    if classes == len(listed) + 1:
        return ("", *listed)
    if classes == len(listed) + 2:
        return ("", *listed, " ")
    return None


def decode_greedily(output: Array) -> list[tuple[int, ...]]:
    """Return the classes that each line (N, T, C) reads, repeats merged and blanks dropped."""
    chosen = output.argmax(2)
    lines = []
    for row in chosen:
        changes = np.ones(len(row), np.bool_)
        changes[1:] = row[1:] != row[:-1]
        lines.append(tuple(row[changes & (row != BLANK)].tolist()))
    return lines


def to_texts(lines: Sequence[tuple[int, ...]], characters: tuple[str, ...] | None) -> list[Text]:
    """Return lines as text where the characters are known, else as they are."""
    if characters is None:
        return list(lines)
    return ["".join(characters[k] for k in line).strip() for line in lines]


def character_accuracy(texts: Sequence[Text], truth: Sequence[Text]) -> float | None:
    """Return 1 - edit distance / length over all lines; None where the truth is empty."""
    wrong, length = _count_characters(texts, truth).sum(0)
    return None if not length else float(1 - wrong / length)


def line_accuracy(texts: Sequence[Text], truth: Sequence[Text]) -> float | None:
    """Return the share of lines that equal the truth; None without lines."""
    return float(_equal_lines(texts, truth).mean()) if truth else None


def _count_characters(texts: Sequence[Text], truth: Sequence[Text]) -> Floats:
    """Return the edit distance and the true length of every line, (N, 2)."""
    pairs = zip(texts, truth, strict=True)
    return np.array([(Levenshtein.distance(a, b), len(b)) for a, b in pairs]).reshape(-1, 2)


def _equal_lines(texts: Sequence[Text], truth: Sequence[Text]) -> Floats:
    return np.array([a == b for a, b in zip(texts, truth, strict=True)], np.bool_)


def _characters_of_draws(texts: Sequence[Text], truth: Sequence[Text]) -> WeightedFigure:
    counts = _count_characters(texts, truth)

    def share(weights: Floats) -> Floats:
        wrong, length = (weights @ counts).T
        return np.asarray(1 - wrong / np.where(length > 0, length, np.nan))

    return share


class TextTally:
    """Gathers the lines that both models read from one output."""

    def __init__(
        self, output: str, characters: tuple[str, ...] | None, labels: TextLabels | None = None
    ) -> None:
        self.output, self.characters = output, characters
        self.labels = None if characters is None else labels
        self.teacher: list[Text] = []
        self.student: list[Text] = []
        self.places: list[int] = []

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Read a batch of lines; its first one has the place `start`."""
        first, second = (
            to_texts(decode_greedily(part[self.output]), self.characters)
            for part in (teacher, student)
        )
        self.teacher += first
        self.student += second
        self.places += range(start, start + len(first))

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return characters and lines against labels, and against the float model's texts."""
        rows: list[TaskMeasure] = []
        if self.labels is not None:
            truth: list[Text] = [self.labels.texts[place].strip() for place in self.places]
            rows += self._rows("labels", truth, (self.teacher, self.student))
        return (*rows, *self._rows("float model", self.teacher, (None, self.student)))

    def _rows(
        self,
        truth: Truth,
        texts: Sequence[Text],
        both: tuple[Sequence[Text] | None, Sequence[Text]],
    ) -> list[TaskMeasure]:
        prefix = "fidelity_" if truth == "float model" else ""
        whose = "the float model's own texts" if prefix else "the labeled texts"
        count = f"{sum(map(len, texts)):,} characters on {len(texts):,} lines"
        teacher, student = both
        characters = TaskMeasure(
            name=f"{prefix}characters",
            task="texts",
            truth=truth,
            teacher=None if teacher is None else character_accuracy(teacher, texts),
            student=character_accuracy(student, texts),
            n=len(texts),
            meaning=f"share of characters read as in {whose} (1 - edit distance / length; {count})",
        )
        read = [student] if teacher is None else [student, teacher]
        draws = redraw(len(texts), *(_characters_of_draws(each, texts) for each in read))
        lines = replace(
            characters,
            name=f"{prefix}lines",
            teacher=None if teacher is None else line_accuracy(teacher, texts),
            student=line_accuracy(student, texts) if any(texts) else None,
            meaning=f"share of lines read exactly as in {whose} ({count})",
        )
        equal = [_equal_lines(each, texts) for each in read]
        return [
            add_intervals(characters, *draws, is_share=True, informative=sum(map(bool, texts))),
            lines if lines.student is None else _with_shares(lines, *equal),
        ]


def _with_shares(
    measure: TaskMeasure, student: Floats, teacher: Floats | None = None
) -> TaskMeasure:
    """Return a measure that is the share of right inputs (N,) with its exact intervals."""
    n = measure.n
    found = replace(measure, interval=wilson_interval(int(student.sum()), n))
    if teacher is None:
        return found
    lost, gained = int((teacher & ~student).sum()), int((student & ~teacher).sum())
    points = paired_drop(lost, gained, n).points
    drop = Interval(points.value / 100, points.low / 100, points.high / 100, n)
    return replace(found, drop_interval=drop)
