"""`dfqonnx sweep`: many runs on an engine, and one report of them.

    read -> check everything cheap -> leave out what is complete -> run the rest -> compare -> write

A row is kept as soon as its task is over, so that a sweep that was stopped, or another one with
more in its file, runs only what is missing. `--since` is read before anything slow.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from dfqonnx.config.sweep_file import SweepTask
from dfqonnx.config.sweep_request import TASKS, SweepConfig, task_config
from dfqonnx.core.atomic_write import atomic_file, atomic_files, check_writable
from dfqonnx.core.location import describe_location, is_remote, join_location, last_name
from dfqonnx.core.replace_folder import MARKER
from dfqonnx.core.staging import is_ours, staging_folder
from dfqonnx.errors import DfqError, EnvironmentProblem, UsageError
from dfqonnx.jobs.job import Engine, Job, JobEvent
from dfqonnx.jobs.one_process import OneProcess
from dfqonnx.jobs.ray_cluster import NO_RAY, RayCluster, has_ray
from dfqonnx.report.environment import describe_environment
from dfqonnx.report.mlflow_log import check_mlflow, log_to_mlflow
from dfqonnx.report.since import Change, compare_sweeps
from dfqonnx.report.sweep_files import RESULT, list_written, write_sweep
from dfqonnx.report.sweep_result import FINISHED, SweepResult, SweepRow
from dfqonnx.report.sweep_table import NO_PARQUET, has_pyarrow, read_row, read_rows
from dfqonnx.storage.object_store import open_store
from dfqonnx.storage.transfer import fetch, is_complete, read_bytes
from dfqonnx.version import __version__
from dfqonnx.workflows.sweep_resources import choose_resources
from dfqonnx.workflows.sweep_task import (
    Identities,
    TaskPayload,
    failed_row,
    key_of,
    run_task,
    unfinished_row,
)

COPY = "sweep.yaml"  # of the sweep file beside the results: the folder is ours
LOCK = ".dfqonnx-sweep.lock"
READERS = 16  # rows that are asked for at a time, where each is a request to a store


class SweepWatcher(Protocol):
    """Sees what becomes of the tasks."""

    def begin(self, tasks: Sequence[SweepTask], known: Mapping[str, SweepRow]) -> None:
        """Learn the tasks, and the rows of those that are complete already."""

    def event(self, event: JobEvent) -> None:
        """Learn what an engine told of a task."""

    def row(self, row: SweepRow) -> None:
        """Learn how a task ended."""

    def note(self, message: str) -> None:
        """Show a line."""


def sweep(
    config: SweepConfig, watcher: SweepWatcher
) -> tuple[SweepResult, tuple[Change, ...] | None]:
    """Run the tasks of a sweep that are not complete, and write the report of all.

    Returns:
        the result, and what changed since the earlier sweep; None where there is none.

    Raises:
        UsageError: a path or a value does not fit.
        EnvironmentProblem: the engine, a store or a permission is missing.
    """
    began = time.monotonic()
    earlier = None if config.since is None else read_earlier(config.since)
    engine = choose_engine(config, watcher.note)
    if config.mlflow is not None:
        check_mlflow()
    _check_output(config.out)
    with _held(config.out):
        _write(join_location(config.out, COPY), config.file.read_bytes())
        payloads = _make_payloads(config)
        known = {} if config.fresh else _find_complete(config, payloads)
        watcher.begin(config.plan.tasks, known)
        rows = _run(config, payloads, known, engine=engine, watcher=watcher)
        notes = (
            [] if has_pyarrow() else [f"Without pyarrow there is no Parquet table: {NO_PARQUET}"]
        )
        result = SweepResult(
            name=config.plan.name,
            rows=tuple(rows[task.name] for task in config.plan.tasks),
            engine=engine.describe(),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            seconds=time.monotonic() - began,
            version=__version__,
            notes=tuple(notes),
            environment=describe_environment(),
        )
        changes = None if earlier is None else compare_sweeps(earlier, result.rows)
        _write_report(config.out, result, changes)
    if config.mlflow is not None:
        log_to_mlflow(result, config.mlflow)
    return result, changes


def choose_engine(config: SweepConfig, note: Callable[[str], None]) -> Engine:
    """Return what runs the tasks.

    Raises:
        EnvironmentProblem: Ray is asked for and not installed.
    """
    wants_ray = config.engine == "ray" or config.address is not None
    if config.engine == "local" or (not wants_ray and not has_ray()):
        if config.engine == "auto":
            note(f"The tasks run one after the other: {NO_RAY}.")
        return OneProcess()
    if not has_ray():
        raise EnvironmentProblem(f"--engine ray: {NO_RAY}")
    return RayCluster(address=config.address, cores=config.cores, retries=config.plan.retries)


def read_earlier(location: str) -> tuple[SweepRow, ...]:
    """Return the rows of an earlier sweep, from a path or a URL.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if not is_remote(location):
        return read_rows(Path(location))
    is_file = last_name(location).endswith((".json", ".parquet"))
    with tempfile.TemporaryDirectory(prefix="dfqonnx-since-") as folder:
        url = location if is_file else join_location(location, RESULT)
        return read_rows(fetch(url, Path(folder)))


def list_refused(tasks: Sequence[SweepTask]) -> dict[str, str]:
    """Return the tasks that no run takes, such as widths that a target has no form for: why."""
    refused = {}
    for task in tasks:
        try:
            task_config(task, "out")
        except DfqError as error:
            refused[task.name] = error.message
    return refused


def _make_payloads(config: SweepConfig) -> dict[str, TaskPayload]:
    identities, payloads = Identities(), {}
    given = config.plan.resources.memory
    memory = None if given is None else int(given)
    for task in config.plan.tasks:
        try:
            key = key_of(task, identities, memory=memory)
        except DfqError:
            key = ""  # the task itself says what is the matter
        folder = config.folder_of(task)
        payloads[task.name] = TaskPayload(task=task, folder=folder, key=key, memory=memory)
    return payloads


def _find_complete(config: SweepConfig, payloads: Mapping[str, TaskPayload]) -> dict[str, SweepRow]:
    """Return the rows of tasks whose result is there, made of the same files and settings."""

    def find(task: SweepTask) -> SweepRow | None:
        data = read_bytes(config.row_of(task))
        row = None if data is None else read_row(data)
        key = payloads[task.name].key
        if row is None or not key or row.key != key or row.status not in FINISHED:
            return None
        folder = config.folder_of(task)
        there = is_complete(folder) if is_remote(folder) else (Path(folder) / MARKER).is_file()
        return row if there else None

    with ThreadPoolExecutor(READERS if is_remote(config.out) else 1) as pool:
        rows = pool.map(find, config.plan.tasks)
        return {row.task: row for row in rows if row is not None}


def _run(
    config: SweepConfig,
    payloads: Mapping[str, TaskPayload],
    known: Mapping[str, SweepRow],
    *,
    engine: Engine,
    watcher: SweepWatcher,
) -> dict[str, SweepRow]:
    """Run what is not known, and keep each row as it comes."""
    rows = dict(known)
    tasks = [task for task in config.plan.tasks if task.name not in known]

    def keep(row: SweepRow) -> None:
        rows[row.task] = row
        place = join_location(config.out, TASKS, f"{row.task}.json")
        _write(place, (json.dumps(asdict(row), indent=2) + "\n").encode())
        watcher.row(row)

    def on_event(event: JobEvent) -> None:
        watcher.event(event)
        payload = payloads[event.name]
        if event.state == "ended":
            row = _check_there(payload, event.result)
            keep(replace(row, attempts=event.attempt, where=event.where))
        elif event.state in {"lost", "cancelled"}:
            reason = event.text or "it was cancelled"
            row = unfinished_row(payload, "lost" if event.state == "lost" else "cancelled", reason)
            keep(replace(row, attempts=event.attempt, where=event.where))

    for name, reason in list_refused(tasks).items():
        keep(failed_row(payloads[name], reason, UsageError()))
    left = [task for task in tasks if task.name not in rows]
    if left:
        jobs = [Job(task.name, payloads[task.name]) for task in left]
        if engine.places_jobs:
            takes = choose_resources(left, config.plan.resources, watcher.note)
            jobs = [replace(job, resources=takes[job.name]) for job in jobs]
        engine.run(jobs, run_task, on_event=on_event, note=watcher.note)
    return rows


def _check_there(payload: TaskPayload, row: SweepRow) -> SweepRow:
    """Return the row; of files that a worker wrote to a disk of its own, one that says so."""
    folder = payload.folder
    if row.status not in FINISHED or is_remote(folder) or (Path(folder) / MARKER).is_file():
        return row
    reason = (
        f"{folder} was written on {row.where or 'another machine'}, and is not here: give --out a"
        " URL, or a folder that all machines share"
    )
    return unfinished_row(payload, "failed", reason)


def _check_output(out: str) -> None:
    """Refuse a place that holds what no sweep wrote.

    Raises:
        UsageError, EnvironmentProblem: it does, or it cannot be written to.
    """
    if is_remote(out):
        store = open_store(out)
        foreign = [name for name in store.list_names() if not is_ours(name.split("/")[0])]
        is_sweep = not foreign or store.is_file(COPY)
    else:
        path = Path(out)
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {out}: is a file; give the name of a folder")
        check_writable(path, out=path)
        entries = path.iterdir() if path.is_dir() else iter(())
        foreign = [e.name for e in entries if not (is_ours(e.name) or e.name == LOCK)]
        is_sweep = not foreign or (path / COPY).is_file()
    if not is_sweep:
        raise UsageError(
            f"--out {describe_location(out)}: holds files that no sweep wrote ({min(foreign)},"
            " ...); choose an empty or new folder"
        )


@contextmanager
def _held(out: str) -> Iterator[None]:
    """Hold a folder, so that no second sweep writes there at the same time.

    Raises:
        UsageError: one does.
    """
    if is_remote(out):
        yield
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
            (folder / LOCK).unlink(missing_ok=True)
    except Timeout:
        raise UsageError(f"--out {out}: another sweep writes there now; wait for it") from None


def _write(location: str, data: bytes) -> None:
    """Write a file or an object in one step."""
    if is_remote(location):
        home, _, name = location.rpartition("/")
        open_store(home).write(name, data)
        return
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as place:
        place.write_bytes(data)


def _write_report(out: str, result: SweepResult, changes: tuple[Change, ...] | None) -> None:
    """Write the files of the sweep; the result itself comes last."""
    names = list_written()
    if not is_remote(out):
        paths = [Path(out) / name for name in names]
        with atomic_files(*paths) as places:
            write_sweep(result, changes, dict(zip(names, places, strict=True)))
        return
    with staging_folder(Path(tempfile.gettempdir())) as folder:
        write_sweep(result, changes, {name: folder / name for name in names})
        store = open_store(out)
        try:
            for name in names:
                store.upload(folder / name, name)
        except EnvironmentProblem as error:
            kept = Path(tempfile.mkdtemp(prefix="dfqonnx-unpublished-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            raise EnvironmentProblem(f"{error.message}; the report is kept in {kept}/") from None
