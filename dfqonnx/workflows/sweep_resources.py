"""What each task of a sweep takes of a machine, where its file does not say.

Cores and shares of a GPU are those of the file. Memory follows from the size of the model's file:
the libraries, and so many copies of the weights (the float model, the student, gradients, moments,
the files in both runtimes) as a training step holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dfqonnx.config.sweep_file import SweepResources, SweepTask
from dfqonnx.core.location import is_remote
from dfqonnx.jobs.job import JobResources

LOADED_BYTES = 700 * 2**20  # libraries, and the images of a batch
COPIES = 12


def choose_resources(
    tasks: Sequence[SweepTask], given: SweepResources, note: Callable[[str], None]
) -> dict[str, JobResources]:
    """Return the resources of every task by its name."""
    return {
        task.name: JobResources(
            cores=given.cores,
            memory_bytes=estimate_memory(task) if given.memory is None else int(given.memory),
            gpus=given.gpu,
        )
        for task in tasks
    }


def estimate_memory(task: SweepTask) -> int:
    """Return about how many bytes a task holds at most; 0 where nothing is known of its model."""
    path = Path(task.model)
    if is_remote(task.model) or not path.is_file():
        return 0
    return LOADED_BYTES + COPIES * path.stat().st_size
