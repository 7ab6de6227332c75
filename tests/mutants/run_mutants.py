"""Runs the tests near a module against its mutants, and says how many of them are noticed.

    python -m tests.mutants.run_mutants                      a sample of every module near gates
    python -m tests.mutants.run_mutants --all gate_verdicts  every mutant of one
    python -m tests.mutants.run_mutants --planted            every mutant chosen by hand
    python -m tests.mutants.run_mutants --planted roles      those of modules that end so

No file of the package changes, see `trials`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from tests.mutants.mutate import Mutant, plant_mistakes
from tests.mutants.near_tests import NEAR, NEAR_PLANTED
from tests.mutants.planted import PlantedMutant
from tests.mutants.planted_in_export import EXPORT
from tests.mutants.planted_in_numbers import GATES, SCALES, STATISTICS
from tests.mutants.planted_in_passes import PASSES
from tests.mutants.planted_in_placement import PLACEMENT, ROLES
from tests.mutants.trials import Trial, import_packages, read_module, run_trials

FIELDS: Mapping[str, tuple[PlantedMutant, ...]] = {
    "placement": PLACEMENT,
    "roles": ROLES,
    "graph passes": PASSES,
    "export": EXPORT,
    "scale search": SCALES,
    "statistics": STATISTICS,
    "gates": GATES,
}
Found = TypeVar("Found")
SAMPLE = 8  # mutants of a module, or chosen by hand of a field
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A mutant, and whether a test noticed it."""

    group: str
    mutant: Mutant | PlantedMutant
    died: bool


def choose_mutants(module: str, count: int | None) -> list[Mutant]:
    """Return mutants of a module, spread over all of its lines; None takes all of them."""
    found = list(plant_mistakes(read_module(module)))
    return found if count is None else _spread(found, count, module)


def choose_planted(
    field: str, count: int | None, modules: Sequence[str] = ()
) -> list[PlantedMutant]:
    """Return mutants of a field chosen by hand, spread over its list; None takes all of them."""
    found = [m for m in FIELDS[field] if not modules or m.module.endswith(tuple(modules))]
    return found if count is None else _spread(found, count, field)


def _spread(found: list[Found], count: int, seed: str) -> list[Found]:
    if count >= len(found):
        return found
    rng = random.Random(f"{SEED} {seed}")
    edges = [k * len(found) // count for k in range(count + 1)]
    return [found[rng.randrange(first, last)] for first, last in pairwise(edges)]


def try_modules(modules: Sequence[str], count: int | None, *, jobs: int = 1) -> list[Outcome]:
    """Try automatic mutants of several modules."""
    import_packages(heavy=False)
    _check_tests(modules, NEAR, jobs=jobs)
    mutants = [(module, mutant) for module in modules for mutant in choose_mutants(module, count)]
    trials = [Trial(module=name, source=m.source(), tests=NEAR[name]) for name, m in mutants]
    return [
        Outcome(group=f"`{name}.py`", mutant=mutant, died=not passed)
        for (name, mutant), passed in zip(mutants, run_trials(trials, jobs=jobs), strict=True)
    ]


def try_planted(chosen: Mapping[str, Sequence[PlantedMutant]], *, jobs: int = 1) -> list[Outcome]:
    """Try mutants chosen by hand, by field."""
    import_packages(heavy=True)
    mutants = [(field, mutant) for field, found in chosen.items() for mutant in found]
    modules = tuple(dict.fromkeys(mutant.module for _, mutant in mutants))
    trials = [
        Trial(
            module=mutant.module,
            source=mutant.plant(read_module(mutant.module)),
            tests=tuple(dict.fromkeys((*mutant.tests, *NEAR_PLANTED[mutant.module]))),
        )
        for _, mutant in mutants
    ]
    _check_tests(modules, NEAR_PLANTED, jobs=jobs)
    return [
        Outcome(group=field, mutant=mutant, died=not passed)
        for (field, mutant), passed in zip(mutants, run_trials(trials, jobs=jobs), strict=True)
    ]


def _check_tests(modules: Sequence[str], near: Mapping[str, tuple[str, ...]], *, jobs: int) -> None:
    """Raise where tests fail without any mistake: then no mutant's death means a thing."""
    by_tests = {near[module]: module for module in modules}
    trials = [Trial(module=m, source=read_module(m), tests=t) for t, m in by_tests.items()]
    for trial, passed in zip(trials, run_trials(trials, jobs=jobs), strict=True):
        if not passed:
            raise RuntimeError(f"these tests fail without any mistake: {' '.join(trial.tests)}")


def format_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return a table by module or field, and every mutant that lived."""
    lines = ["| where | mutants | died |", "| --- | ---: | ---: |"]
    for group in dict.fromkeys(outcome.group for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.group == group]
        lines.append(f"| {group} | {len(own)} | {sum(o.died for o in own)} |")
    lines.append(f"| together | {len(outcomes)} | {sum(o.died for o in outcomes)} |")
    living = [f"- {o.group}: {o.mutant}" for o in outcomes if not o.died]
    return "\n".join([*lines, *(["", "Alive:", "", *living] if living else [])]) + "\n"


def to_json(outcomes: Sequence[Outcome]) -> str:
    """Return one entry for every mutant."""
    entries = [{"where": o.group, "mutant": str(o.mutant), "died": o.died} for o in outcomes]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Print the table of a sample, or of every mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="the ends of module names; all by default")
    parser.add_argument("--all", action="store_true", help="every mutant, not a sample")
    parser.add_argument("--planted", action="store_true", help="those chosen by hand, every one")
    parser.add_argument("--count", type=int, help="mutants of a module, or of a field by hand")
    parser.add_argument("--jobs", type=int, default=1, help="trials at a time")
    parser.add_argument("--json", type=Path, help="a file for every outcome")
    given = parser.parse_args()
    started = time.monotonic()
    if given.planted:
        chosen = {field: choose_planted(field, given.count, given.modules) for field in FIELDS}
        outcomes = try_planted({f: found for f, found in chosen.items() if found}, jobs=given.jobs)
    else:
        chosen_modules = [m for m in NEAR if not given.modules or m.endswith(tuple(given.modules))]
        count = None if given.all else given.count or SAMPLE
        outcomes = try_modules(chosen_modules, count, jobs=given.jobs)
    if given.json is not None:
        given.json.write_text(to_json(outcomes), encoding="utf-8")
    sys.stdout.write(format_outcomes(outcomes))
    sys.stderr.write(f"{time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
