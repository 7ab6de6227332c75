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

import numpy as np
from rapidfuzz.distance import Levenshtein

from dfqonnx.data.label_types import TextLabels
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth
from dfqonnx.evaluation.outputs import Array, Outputs

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
    length = sum(map(len, truth))
    if not length:
        return None
    wrong = sum(Levenshtein.distance(a, b) for a, b in zip(texts, truth, strict=True))
    return 1 - wrong / length


def line_accuracy(texts: Sequence[Text], truth: Sequence[Text]) -> float | None:
    """Return the share of lines that equal the truth; None without lines."""
    equal = [a == b for a, b in zip(texts, truth, strict=True)]
    return float(np.mean(equal)) if equal else None


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
        is_known = any(texts)
        whose = "the float model's own texts" if prefix else "the labeled texts"
        count = f"{sum(map(len, texts)):,} characters on {len(texts):,} lines"
        meanings = (
            ("characters", character_accuracy,
             f"share of characters read as in {whose} (1 - edit distance / length; {count})"),
            ("lines", line_accuracy, f"share of lines read exactly as in {whose} ({count})"),
        )  # fmt: skip
        return [
            TaskMeasure(
                name=prefix + name,
                task="texts",
                truth=truth,
                teacher=None if both[0] is None else measure(both[0], texts),
                student=measure(both[1], texts) if is_known else None,
                n=len(texts),
                meaning=meaning,
            )
            for name, measure, meaning in meanings
        ]
