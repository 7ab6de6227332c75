"""What each task of a sweep takes of a machine, where its file does not say.

Cores and shares of a GPU are those of the file. Memory and seconds follow from the cost model,
which opens each model once for every recipe, width and target: two seconds here. A sweep of
more than `MOST_OPENED` such combinations would wait too long for that, and takes the bound that the
memory model gives for the size of the model's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfqonnx.config.sweep_file import SweepResources, SweepTask
from dfqonnx.config.sweep_request import task_config
from dfqonnx.core.location import is_remote
from dfqonnx.core.memory_model import bound_memory
from dfqonnx.errors import DfqError
from dfqonnx.jobs.job import JobResources
from dfqonnx.workflows.inspect import dry_run
from dfqonnx.workflows.staged_files import stage

MOST_OPENED = 48
SPARE = 1.25  # of the memory that the cost model predicts, as a run itself keeps


@dataclass(frozen=True)
class TaskCost:
    """About how many bytes a task holds at most, and its seconds; 0 where nothing is known."""

    memory_bytes: int = 0
    seconds: float = 0.0


def choose_resources(
    tasks: Sequence[SweepTask],
    given: SweepResources,
    note: Callable[[str], None],
    *,
    costs: Mapping[str, TaskCost] | None = None,
) -> dict[str, JobResources]:
    """Return the resources of every task by its name; `costs` are what is known already."""
    memory = given.memory
    known = costs
    if known is None:
        known = {} if memory is not None else estimate_costs(tasks, note)
    return {
        task.name: JobResources(
            cores=given.cores,
            memory_bytes=known[task.name].memory_bytes if memory is None else int(memory),
            gpus=given.gpu,
        )
        for task in tasks
    }


def estimate_costs(tasks: Sequence[SweepTask], note: Callable[[str], None]) -> dict[str, TaskCost]:
    """Return what every task costs, by its name; seeds cost the same."""
    groups: dict[str, list[SweepTask]] = {}
    for task in tasks:
        settings = task.settings.model_dump_json()
        key = "\n".join((task.model, task.bits, task.target, task.recipe, settings))
        groups.setdefault(key, []).append(task)
    if len(groups) > MOST_OPENED:
        note(
            f"Memory is told by the sizes of the models' files: {len(groups)} combinations are too"
            " many to open each; resources.memory in the sweep file says it exactly."
        )
        return {task.name: TaskCost(_guess_memory(task)) for task in tasks}
    found: dict[str, TaskCost] = {}
    for alike in groups.values():
        cost = _predict(alike[0])
        found |= {task.name: cost for task in alike}
    return found


def _predict(task: SweepTask) -> TaskCost:
    """Return what the cost model says; of a task that cannot run, nothing is known."""
    try:
        config = task_config(task, "sweep-dry-run")
        with stage(config, publishes=False) as (local, _):
            outline = dry_run(local).outline
    except DfqError:
        return TaskCost()
    if outline is None:
        return TaskCost()
    seconds = outline.seconds if outline.seconds_known else 0.0
    return TaskCost(int(SPARE * outline.memory_mib * 2**20), seconds)


def _guess_memory(task: SweepTask) -> int:
    path = Path(task.model)
    if is_remote(task.model) or not path.is_file():
        return 0
    return int(bound_memory(path.stat().st_size))
