"""The mutator plants what it says, and the tests near gates and statistics notice it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.mutants.mutate import plant_mistakes
from tests.mutants.run_mutants import NEAR, ROOT, choose_mutants

SOURCE = '''"""Text < text."""

from __future__ import annotations

LIMIT: int | None = 3


def worst(values: list[float], bound: float = 0.5) -> float:
    """Return max(values)."""
    assert values
    if not values and bound < 1:
        return low if bound else high
    return min(values) - f(bound, values)
'''
EXPECTED = {
    ("number", "3 -> 4"), ("number", "0.5 -> 1.0"), ("number", "1 -> 2"),
    ("logic", "not values and bound < 1 -> not values or bound < 1"),
    ("logic", "not values and bound < 1 -> bound < 1"),
    ("logic", "not values and bound < 1 -> not values"),
    ("logic", "not values -> values"),
    ("compare", "bound < 1 -> bound <= 1"), ("compare", "bound < 1 -> bound > 1"),
    ("condition", "low if bound else high -> high if bound else low"),
    ("extremum", "min -> max"),
    ("arithmetic", "min(values) - f(bound, values) -> min(values) + f(bound, values)"),
    ("order", "f(bound, values) -> f(values, bound)"),
}  # fmt: skip


def test_every_kind_of_mistake_is_planted_once_and_alone() -> None:
    found = list(plant_mistakes(SOURCE))
    plain = {(m.kind, f"{m.before} -> {m.after}") for m in found if m.kind != "condition"}
    plain |= {(m.kind, f"{m.before} -> {m.after}") for m in found if "low" in m.before[:4]}
    assert plain == EXPECTED
    taken = [m.after for m in found if m.before.startswith("if ")]
    assert [text.split(":")[0] for text in taken] == ["if True", "if False"]
    original = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in found:
        lines = mutant.source().splitlines()
        assert len(lines) == len(original)
        changed = [
            k for k, pair in enumerate(zip(lines, original, strict=True)) if len(set(pair)) > 1
        ]
        assert len(changed) == 1, mutant


def test_every_module_gives_enough_mutants_and_the_same_ones_again() -> None:
    for module in NEAR:
        chosen = choose_mutants(module, 8)
        assert [str(m) for m in chosen] == [str(m) for m in choose_mutants(module, 8)]
        assert len({(m.line, m.kind, m.after) for m in chosen}) > 5


@pytest.mark.slow
def test_nine_of_ten_mutants_die() -> None:
    command = [sys.executable, "-m", "tests.mutants.run_mutants", "--count", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    numbers = re.search(r"together \| (\d+) \| (\d+) ", done.stdout)
    assert numbers is not None, done.stdout
    planted, died = (int(number) for number in numbers.groups())
    assert planted >= 60
    assert died >= 0.9 * planted, done.stdout
