"""A network with real inputs: how it reads them, what its outputs mean, and which inputs are whose.

    fidelity    the float model's outputs as truth: what a student changed; needs no label
    truth       one file's outputs against labels

Both return named figures. Calibration inputs and test inputs are disjoint in every fold; outputs of
a candidate that is calibrated are pooled over the folds, each tested with the file of its own fold.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import Preprocessing

Array = NDArray[Any]
Feed = NDArray[np.float32]  # (1, ...), as the network reads it
Outputs = Sequence[tuple[Array, ...]]  # of every input, all outputs, each (1, ...)
Figures = dict[str, float]
LOUDEST = 100.0  # dB
Kind = Literal["classes", "boxes", "masks", "images", "text", "values"]


class Absent(Exception):
    """What a task needs is not on this machine; the message says what."""


@dataclass(frozen=True, kw_only=True)
class RealInputs:
    """Real inputs of a network, and what is known of them."""

    count: int
    feed: Callable[[int], Feed]
    facts: Any = None  # what `truth` needs: labels, texts, boxes


@dataclass(frozen=True)
class Fold:
    """Places of calibration inputs and of test inputs."""

    calibration: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One network of the tables."""

    name: str
    file: str  # below the folder of models
    kind: Kind
    reads: str  # of what the inputs are, in words
    judged: str  # the figure that candidates are compared by; more is better unless `less`
    read: Callable[[Path], RealInputs]  # from the folder of data
    fidelity: Callable[[Outputs, Outputs], Figures]
    folds: tuple[Fold, ...]
    less: bool = False  # whether less of `judged` is better
    truth: Callable[[RealInputs, Sequence[int], Outputs], Figures] | None = None
    preprocess: Preprocessing | None = None  # None where the network reads no image
    size: tuple[int, int] | None = None  # height and width, where the file leaves them open

    @property
    def tested(self) -> tuple[int, ...]:
        """Places of all test inputs, fold by fold."""
        return tuple(place for fold in self.folds for place in fold.test)


def one_fold(calibration: int, test: int) -> tuple[Fold, ...]:
    """Return the first `calibration` places for calibration and the next `test` for testing."""
    return (Fold(tuple(range(calibration)), tuple(range(calibration, calibration + test))),)


def two_halves(count: int) -> tuple[Fold, ...]:
    """Return both halves, each calibrating for a test on the other."""
    first, second = tuple(range(count // 2)), tuple(range(count // 2, count))
    return Fold(second, first), Fold(first, second)


def shorten(folds: Sequence[Fold], most: int) -> tuple[Fold, ...]:
    """Return the folds with at most `most` places in each of their parts, to try things out."""
    return tuple(Fold(fold.calibration[:most], fold.test[:most]) for fold in folds)


def load_measures(data: Path, name: str) -> Any:
    """Return the functions of a measuring script that lies beside the data.

    Raises:
        Absent: it is not there.
    """
    return SimpleNamespace(**runpy.run_path(str(find(data / name))))


def find(path: Path) -> Path:
    """Return the path.

    Raises:
        Absent: nothing is there.
    """
    if not path.exists():
        raise Absent(f"{path.name} is not in {path.parent.name}/")
    return path


def first(outputs: Outputs) -> Array:
    """Return the first output of all inputs, (N, ...)."""
    return np.concatenate([each[0] for each in outputs])


def output_levels(teacher: Outputs, student: Outputs) -> Figures:
    """Return `SQNR`, `signal` and `noise` of the worst output, in dB; SQNR is at most `LOUDEST`.

    The signal is what varies over the inputs, sum (t - mean t)^2 with the mean of every place over
    all inputs: power that is there whatever the input tells nothing of it. Both levels are means
    over the entries of the output.
    """
    found = []
    for k in range(len(teacher[0])):
        t, s = (
            np.concatenate([each[k] for each in part]).astype(np.float64)
            for part in (teacher, student)
        )
        powers = np.square(t - t.mean(0)).mean(), np.square(t - s).mean()
        signal, noise = (10 * float(np.log10(max(float(power), 1e-30))) for power in powers)
        found.append({"SQNR": min(LOUDEST, signal - noise), "signal": signal, "noise": noise})
    return min(found, key=lambda levels: levels["SQNR"])
