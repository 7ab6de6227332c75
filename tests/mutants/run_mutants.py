"""Runs the tests near a module against its mutants, and says how many of them are noticed.

    python -m tests.mutants.run_mutants                     a sample of every module
    python -m tests.mutants.run_mutants --all gate_verdicts  every mutant of one

Each mutant is tried in a forked process whose imports of third-party packages are done already, so
that it takes a second or two. A mutant dies where a test fails, an error arises, or time runs out.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.mutate import Mutant, plant_mistakes

ROOT = Path(__file__).parents[2]
GATES = (
    "tests/report/test_gates.py", "tests/report/test_report.py", "tests/report/test_build.py",
    "tests/report/test_measure_lines.py",
)  # fmt: skip
ESTIMATE = ("tests/drop_estimate/test_regression.py", "tests/drop_estimate/test_noise_ratio.py")
NEAR = {  # module -> the tests near it, the most likely to notice first
    "report/gate_verdicts": GATES,
    "report/verdict": (*GATES[1:], GATES[0]),
    "report/build": (GATES[2],),
    "report/evidence_warnings": ("tests/report/test_evidence_warnings.py",),
    "evaluation/statistics": ("tests/evaluation/test_statistics.py",),
    "evaluation/bootstrap": ("tests/evaluation/test_bootstrap.py",),
    "evaluation/signal_noise": ("tests/evaluation/test_signal_noise.py",),
    "evaluation/measures/precision_draws": ("tests/evaluation/test_measure_intervals.py",),
    "evaluation/measures/add_intervals": ("tests/evaluation/test_measure_intervals.py",),
    "evaluation/evidence": ("tests/evaluation/test_evidence.py",),
    "evaluation/output_reach": ("tests/evaluation/test_output_reach.py",),
    "evaluation/drop_estimate/noise_ratio": ESTIMATE[::-1],
    "evaluation/drop_estimate/regression": ESTIMATE,
}
PACKAGES = (  # that start no threads: a forked process would wait for them for ever
    "numpy", "scipy.stats", "scipy.optimize", "scipy.special", "pydantic", "rich.table",
)  # fmt: skip
SAMPLE = 8  # mutants of a module
SECONDS = 30  # of processor time for one mutant
SEED = 0


@dataclass(frozen=True)
class Outcome:
    """A mutant, and whether a test noticed it."""

    module: str
    mutant: Mutant
    died: bool


class _MutatedModule(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module of the package as another text."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path, self._source = name, path, source

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the mutated module is found; None for any other."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        """Execute the mutated text."""
        module.__file__ = str(self._path)
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def choose_mutants(module: str, count: int | None) -> list[Mutant]:
    """Return mutants of a module, spread over all of its lines; None takes all of them."""
    found = list(plant_mistakes((ROOT / "dfqonnx" / f"{module}.py").read_text(encoding="utf-8")))
    if count is None or count >= len(found):
        return found
    rng = random.Random(f"{SEED} {module}")
    edges = [k * len(found) // count for k in range(count + 1)]
    return [found[rng.randrange(first, last)] for first, last in pairwise(edges)]


def _passes(module: str, source: str) -> bool:
    """Return whether the near tests pass with this text of the module, in a process of its own."""
    child = os.fork()
    if not child:
        os._exit(_run_tests(module, source))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _run_tests(module: str, source: str) -> int:
    """Run in the child: return 0 where every test passes."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # a mutant may loop for ever
    name = f"dfqonnx.{module.replace('/', '.')}"
    path = ROOT / "dfqonnx" / f"{module}.py"
    sys.meta_path.insert(0, _MutatedModule(name, path, source))
    os.chdir(ROOT)
    arguments = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--hypothesis-seed=0", *NEAR[module]]
    return int(pytest.main(arguments))


def try_all(modules: Sequence[str], count: int | None) -> list[Outcome]:
    """Try the mutants of several modules."""
    _import_packages()
    outcomes = []
    for module in modules:
        text = (ROOT / "dfqonnx" / f"{module}.py").read_text(encoding="utf-8")
        if not _passes(module, text):
            raise RuntimeError(f"{module}: its tests fail without any mistake: {NEAR[module]}")
        outcomes += [
            Outcome(module, mutant, died=not _passes(module, mutant.source()))
            for mutant in choose_mutants(module, count)
        ]
    return outcomes


def _import_packages() -> None:
    """Import what the tests import from elsewhere, once for all children."""
    for name in PACKAGES:
        importlib.import_module(name)


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return a table by module, and every mutant that lived."""
    lines = ["| module | mutants | died |", "| --- | ---: | ---: |"]
    for module in dict.fromkeys(outcome.module for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.module == module]
        lines.append(f"| `{module}.py` | {len(own)} | {sum(o.died for o in own)} |")
    lines.append(f"| together | {len(outcomes)} | {sum(o.died for o in outcomes)} |")
    living = [f"- `{o.module}.py`, {o.mutant}" for o in outcomes if not o.died]
    return "\n".join([*lines, *(["", "Alive:", "", *living] if living else [])]) + "\n"


def main() -> None:
    """Print the table of a sample, or of every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="the ends of module names; all by default")
    parser.add_argument("--all", action="store_true", help="every mutant, not a sample")
    parser.add_argument("--count", type=int, default=SAMPLE, help="mutants of a module")
    given = parser.parse_args()
    chosen = [m for m in NEAR if not given.modules or m.endswith(tuple(given.modules))]
    sys.stdout.write(format_outcomes(try_all(chosen, None if given.all else given.count)))


if __name__ == "__main__":
    main()
