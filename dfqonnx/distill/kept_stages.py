"""The stages of distillation as kept entries, and back: initialized, in training, trained.

What is read back is compared in name, type and shape with what the same run would write before
anything is set from it, or everything is set back; so a student is never half of one state and half
of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.core.stage_keeper import (
    DISTILL,
    INITIALIZE,
    TRAINED,
    DamagedEntry,
    Entry,
    StageKeeper,
)
from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.batch_size import BatchSizes
from dfqonnx.distill.distilled import Distilled
from dfqonnx.distill.state import LogEntry, TrainingState
from dfqonnx.distill.trainer import Trainer
from dfqonnx.fakequant.student import Student


def keep_initialized(
    student: Student, before: Agreement, sizes: BatchSizes, keeper: StageKeeper
) -> None:
    """Keep the student as it is before training, with its held-out agreement."""
    facts = {"agreement": asdict(before), "sizes": asdict(sizes)}
    keeper.keep(INITIALIZE, Entry(to_arrays(student.save_state()), facts))


def find_initialized(student: Student, keeper: StageKeeper) -> tuple[Agreement, BatchSizes] | None:
    """Set the student to what was kept before training; None where nothing was."""

    def build(entry: Entry) -> tuple[Agreement, BatchSizes]:
        state = to_tensors(entry, student.save_state())
        found = Agreement(**entry.facts["agreement"]), BatchSizes(**entry.facts["sizes"])
        student.load_state(state)
        return found

    return keeper.find(INITIALIZE, build)


def keep_trained(student: Student, result: Distilled, keeper: StageKeeper) -> None:
    """Keep the student as distillation left it, and what is to be told of it."""
    trained = {f"left.{name}": value for name, value in student.save_state().items()}
    before = {f"untrained.{name}": value for name, value in result.untrained.items()}
    facts = {name: value for name, value in vars(result).items() if name != "untrained"}
    facts |= {
        "agreement_before": asdict(result.agreement_before),
        "agreement_after": asdict(result.agreement_after),
        "history": [asdict(entry) for entry in result.history],
    }
    keeper.keep(TRAINED, Entry(to_arrays(trained | before), facts))


def find_trained(student: Student, keeper: StageKeeper) -> Distilled | None:
    """Set the student to what distillation left, where that was kept; else return None."""

    def build(entry: Entry) -> Distilled:
        like = student.save_state()
        names = [f"{head}.{name}" for head in ("left", "untrained") for name in like]
        state = to_tensors(entry, {name: like[name.split(".", 1)[1]] for name in names})
        facts = dict(entry.facts) | {
            "agreement_before": Agreement(**entry.facts["agreement_before"]),
            "agreement_after": Agreement(**entry.facts["agreement_after"]),
            "history": tuple(LogEntry(**each) for each in entry.facts["history"]),
            "held_out": tuple(map(int, entry.facts["held_out"])),
        }
        untrained = {name: state[f"untrained.{name}"] for name in like}
        found = Distilled(**facts, untrained=untrained)
        student.load_state({name: state[f"left.{name}"] for name in like})
        return found

    return keeper.find(TRAINED, build)


class TrainingCheckpoint:
    """Keeps the state of a training from time to time, and lets it go on from there."""

    def __init__(self, trainer: Trainer, state: TrainingState, keeper: StageKeeper) -> None:
        self._trainer, self._state, self._keeper = trainer, state, keeper

    def save_if_due(self) -> None:
        """Keep the state, where the last time was a minute ago at most."""
        if self._keeper.is_due():
            self.save()

    def save(self) -> None:
        """Keep the state."""
        arrays = to_arrays(self._trainer.save_state())
        entry = Entry(arrays, {"state": self._state.save()})
        self._keeper.keep(DISTILL, entry, step=self._state.step, steps=self._state.total_steps)

    def restore(self) -> None:
        """Go on from the state that was kept, where one was."""

        def build(entry: Entry) -> bool:
            tensors = {name: _tensor(array) for name, array in entry.arrays.items()}
            begun = {name: value.clone() for name, value in self._trainer.save_state().items()}
            try:
                self._trainer.load_state(tensors)
                self._state.load(entry.facts["state"])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                self._trainer.load_state(begun)
                raise DamagedEntry(f"it is no state of this training: {error}") from None
            return True

        self._keeper.find(DISTILL, build)


def to_arrays(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return tensors as arrays."""
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def to_tensors(entry: Entry, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an entry's arrays as tensors.

    Raises:
        DamagedEntry: they differ from `like` in name, type or shape.
    """
    if entry.arrays.keys() != like.keys():
        odd = sorted(entry.arrays.keys() ^ like.keys())[0]
        raise DamagedEntry(f"the array {odd!r} is not on both sides")
    return {
        name: _tensor(entry.array(name, like=value.detach().cpu().numpy()))
        for name, value in like.items()
    }


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy that can be written to
