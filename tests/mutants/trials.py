"""Runs tests against another text of one module, each time in a forked process of its own.

The process finds the module as the text that is given, so no file changes; third-party packages
are imported before the fork, so that a trial takes seconds. A mistake is noticed where a test
fails, an error arises, or processor time runs out; not where the machine is too busy.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "numpy", "scipy.stats", "scipy.optimize", "scipy.special", "pydantic", "rich.table", "onnx",
    "onnx.reference", "onnx_ir", "ml_dtypes",
)  # fmt: skip
HEAVY = ("torch", "onnxruntime")  # that the tests near gates do not need
SECONDS = 60  # of processor time for one trial
PATIENCE = 1200  # seconds on the clock


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A module's text, and the tests that are to notice what is wrong with it."""

    module: str  # its path in the package, without the suffix
    source: str
    tests: tuple[str, ...]  # files, or single tests as pytest names them


def read_module(module: str) -> str:
    """Return the text of a module as it is."""
    return _path_of(module).read_text(encoding="utf-8")


def run_trials(trials: Sequence[Trial], *, jobs: int = 1) -> list[bool]:
    """Return for every trial whether all of its tests passed; `jobs` run at a time."""
    passed = [False] * len(trials)
    running: dict[int, int] = {}  # process -> trial
    with tempfile.TemporaryDirectory(prefix="dfqonnx-mutants-") as folder:
        for index, trial in enumerate(trials):
            if len(running) == jobs:
                _wait(running, passed)
            running[_start(trial, Path(folder) / str(index))] = index
        while running:
            _wait(running, passed)
    return passed


def import_packages(*, heavy: bool) -> None:
    """Import what the tests import from elsewhere, once for all trials."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in (*PACKAGES, *(HEAVY if heavy else ())):
        importlib.import_module(name)


def _wait(running: dict[int, int], passed: list[bool]) -> None:
    child, status = os.wait()
    passed[running.pop(child)] = os.waitstatus_to_exitcode(status) in {0, -signal.SIGALRM}


def _start(trial: Trial, folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        code = _run_tests(trial, folder)
    except BaseException:  # noqa: BLE001 - whatever it is, the child ends here
        traceback.print_exc()
        code = 1
    os._exit(code)


def _run_tests(trial: Trial, folder: Path) -> int:
    """Run in the child: return 0 where every test passes."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # a mutant may loop for ever
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)  # or wait for ever: then nothing was noticed
    name = f"dfqonnx.{trial.module.replace('/', '.')}"
    sys.meta_path.insert(0, _OtherText(name, _path_of(trial.module), trial.source))
    os.chdir(ROOT)
    flags = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    return int(pytest.main([*flags, f"--basetemp={folder}", *trial.tests]))


def _path_of(module: str) -> Path:
    return ROOT / "dfqonnx" / f"{module}.py"


class _OtherText(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module of the package as another text."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path, self._source = name, path, source

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the module is found; None for any other."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        """Execute the text."""
        module.__file__ = str(self._path)
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)
