"""What `dfqonnx sweep` was asked for, and the run that each of its tasks is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.measuring import read_measuring
from dfqonnx.config.request import run_request
from dfqonnx.config.sweep_file import SweepPlan, SweepTask
from dfqonnx.core.location import as_location, is_remote, join_location

EngineName = Literal["auto", "ray", "local"]
TASKS = "tasks"  # the folder below that of a sweep with one folder a task


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep, where its results go, and what runs it.

    Attributes:
        file: the sweep file itself, of which a copy goes beside the results.
        out: an absolute path or a URL.
        engine: `auto` takes Ray where it is installed.
        address: of a Ray cluster; None starts a local one.
        cores: of a local Ray; None takes all.
        since: an earlier sweep's folder, JSON or Parquet.
        mlflow: the address of a tracking store.
        fresh: run tasks again that are complete.
    """

    file: Path
    plan: SweepPlan
    out: str
    engine: EngineName = "auto"
    address: str | None = None
    cores: int | None = None
    since: str | None = None
    mlflow: str | None = None
    fresh: bool = False

    def folder_of(self, task: SweepTask) -> str:
        """Return where the files of a task go."""
        return join_location(self.out, TASKS, task.name)

    def row_of(self, task: SweepTask) -> str:
        """Return where the row of a task is kept when it is over."""
        return join_location(self.out, TASKS, f"{task.name}.json")


def place_of(text: str) -> str:
    """Return an absolute path or a URL."""
    location = as_location(text)
    return location if is_remote(location) else str(Path(location).absolute())


def task_config(task: SweepTask, out: str, *, memory: int | None = None) -> RunConfig:
    """Return the run that a task is; `memory` is the most that it may hold, in bytes.

    Raises:
        UsageError: some value does not fit, or the target does not take the widths.
    """
    given = task.settings
    return run_request(
        task.model,
        task.bits,
        target=task.target,
        recipe=task.recipe,
        seed=task.seed,
        scale=given.scale,
        preprocess=given.preprocess,
        image_size=given.image_size,
        eval_data=given.eval_data,
        images=given.images,
        calibrate_with=given.calibrate_with,
        budget=given.budget,
        effort=given.effort or "default",
        gates=given.gates or (),
        strict=bool(given.strict),
        device=given.device or "auto",
        out=out,
        memory=memory,
        measuring=read_measuring(None, given.head, given.fit, None, classes=given.classes),
    )
