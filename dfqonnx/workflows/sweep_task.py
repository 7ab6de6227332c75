"""One task of a sweep: a run whose every end is a row.

An unsupported model, a failed gate or a full disk ends this task and no other. `run_task` is what
an engine calls, perhaps on another machine; all that it needs is in the payload.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dfqonnx.config.recipe import read_recipe, write_recipe
from dfqonnx.config.sweep_file import SweepTask, recipe_name
from dfqonnx.config.sweep_request import task_config
from dfqonnx.core.location import describe_location, is_remote
from dfqonnx.core.progress import SilentProgress
from dfqonnx.errors import DfqError, UnsupportedModel
from dfqonnx.graph.load import list_external_names
from dfqonnx.report.report import Report
from dfqonnx.report.sweep_result import Status, SweepRow, list_figures, list_qualities
from dfqonnx.storage.object_store import open_store
from dfqonnx.version import __version__
from dfqonnx.workflows.run import run
from dfqonnx.workflows.staged_files import stage

BLOCK = 2**20
OUT_OF_MEMORY = "out of memory; ask for more with resources.memory, or take a smaller model"
DATA = ("eval_data", "images", "calibrate_with", "classes", "preprocess")  # paths in the settings


@dataclass(frozen=True, kw_only=True)
class TaskPayload:
    """A task, where its files go, the hash of all that decides its result, and its memory."""

    task: SweepTask
    folder: str
    key: str
    memory: int | None = None  # bytes that the sweep file gives it; a run may take fewer images


class StageProgress(SilentProgress):
    """A progress that tells the names of stages alone."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._stage = tell, ""

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Tell a stage that has work, once."""
        if total and stage != self._stage:
            self._stage = stage
            self._tell(stage)


def run_task(payload: TaskPayload, tell: Callable[[str], None]) -> SweepRow:
    """Run a task and return its row, however it ended; only an interruption is raised."""
    try:
        config = task_config(payload.task, payload.folder, memory=payload.memory)
        tell("open")
        with stage(config) as (local, staged):
            try:
                report = run(local, progress=StageProgress(tell))
            except DfqError as error:  # copies of what a URL names have no meaning elsewhere
                return failed_row(payload, staged.name(error.message), error)
            tell("publish")
        return finished_row(payload, report)
    except DfqError as error:
        return failed_row(payload, error.message, error)
    except MemoryError:
        return failed_row(payload, OUT_OF_MEMORY, None, exit_code=4)
    except OSError as error:
        return failed_row(payload, f"{error.filename or ''}: {error.strerror}", None, exit_code=4)
    except Exception as error:  # noqa: BLE001 - a bug ends its own task, and is told as one
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        text = f"this is a bug in dfqonnx ({type(error).__name__} at {place}: {error})"
        return failed_row(payload, f"{text}; please report it", None, exit_code=5)


def finished_row(payload: TaskPayload, report: Report) -> SweepRow:
    """Return the row of a task whose files are there."""
    failed = [f"{gate.rule}: {gate.value}" for gate in report.failed_gates]
    if report.exit_code and not failed:
        failed = [f"--strict: {report.verdict}"]
    return _row(
        payload,
        "gate failed" if report.exit_code else "complete",
        reason="; ".join(failed),
        exit_code=report.exit_code,
        report=report,
    )


def failed_row(
    payload: TaskPayload, reason: str, error: DfqError | None, *, exit_code: int | None = None
) -> SweepRow:
    """Return the row of a task that left no files."""
    code = exit_code if error is None else error.exit_code
    status: Status = "unsupported" if isinstance(error, UnsupportedModel) else "failed"
    return _row(payload, status, reason=reason, exit_code=code)


def unfinished_row(payload: TaskPayload, status: Status, reason: str) -> SweepRow:
    """Return the row of a task whose worker was lost, or that was not begun."""
    return _row(payload, status, reason=reason, exit_code=None)


def _row(
    payload: TaskPayload,
    status: Status,
    *,
    reason: str,
    exit_code: int | None,
    report: Report | None = None,
) -> SweepRow:
    task = payload.task
    return SweepRow(
        task=task.name,
        model=task.model_name,
        model_location=describe_location(task.model),
        bits=task.bits,
        target=task.target,
        recipe=recipe_name(task.recipe),
        seed=task.seed,
        key=payload.key,
        status=status,
        reason=reason,
        exit_code=exit_code,
        folder=describe_location(payload.folder),
        version=__version__,
        verdict="" if report is None else report.verdict,
        model_sha256="" if report is None else report.teacher.sha256 or "",
        student_sha256="" if report is None else report.student.sha256 or "",
        qualities=() if report is None else list_qualities(report),
        figures={} if report is None else list_figures(report),
    )


class Identities:
    """What files and URLs hold, as hashes, each read once a sweep."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], str] = {}

    def of(self, location: str, *, is_model: bool = False) -> str:
        """Return a text that changes with the content; empty where nothing is there."""
        key = location, is_model
        if key not in self._known:
            self._known[key] = _identify(location, is_model)
        return self._known[key]


def key_of(task: SweepTask, identities: Identities, *, memory: int | None) -> str:
    """Return the hash of all that decides the result of a task: files, settings and version.

    Raises:
        UsageError, EnvironmentProblem: what a URL names cannot be asked for.
    """
    settings = task.settings.model_dump()
    data = {name: identities.of(path) for name in DATA if (path := settings[name])}
    content = {
        "model": identities.of(task.model, is_model=True),
        "axes": task.axes[1:3] + task.axes[4:],
        "recipe": write_recipe(read_recipe(task.recipe, scale=task.settings.scale)),
        "settings": settings,
        "data": data,
        "memory": memory,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _identify(location: str, is_model: bool) -> str:
    if is_remote(location):
        return open_store(location).identify()
    path = Path(location)
    if path.is_dir():
        facts = [_stamp(file) for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()
    if not path.is_file():
        return ""
    if not is_model:
        return _stamp(path)
    beside = [path.parent / name for name in list_external_names(path)]
    return " ".join([_hash(path), *(_stamp(file) for file in beside if file.is_file())])


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{path.name} {facts.st_size} {facts.st_mtime_ns}"


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
