"""The mutator plants what it says, and the tests near it notice it, by chance or by hand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.mutants.mutate import plant_mistakes
from tests.mutants.near_tests import NEAR, NEAR_PLANTED
from tests.mutants.planted import PlantedMutant
from tests.mutants.run_mutants import FIELDS, choose_mutants, choose_planted
from tests.mutants.trials import ROOT, read_module

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


def test_the_mutants_chosen_by_hand_are_where_they_belong() -> None:
    """Those whose text has moved on are named when they are run; enough of every field is left."""
    planted = [mutant for mutants in FIELDS.values() for mutant in mutants]
    assert len({str(mutant) for mutant in planted}) == len(planted)
    found = 0
    for mutants in FIELDS.values():
        there = [m for m in mutants if read_module(m.module).count(m.before) == 1]
        assert len(there) >= 12
        found += len(there)
        for mutant in there:
            source = read_module(mutant.module)
            changed = ast.parse(mutant.plant(source))
            assert ast.dump(changed) != ast.dump(ast.parse(source)), mutant
    assert found >= 77


def test_tests_near_every_module_are_there() -> None:
    assert {mutant.module for mutants in FIELDS.values() for mutant in mutants} <= set(NEAR_PLANTED)
    for name in {name for names in NEAR_PLANTED.values() for name in names}:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("source", ["a = 1", "x = 2; x = 2"])
def test_a_mutant_whose_text_is_not_there_once_is_an_error(source: str) -> None:
    mutant = PlantedMutant(module="core/quantization", before="x = 2", after="x = 3", about="x")
    with pytest.raises(LookupError, match="expected once"):
        mutant.plant(source)


def test_a_sample_of_a_field_is_spread_over_its_list() -> None:
    for field, planted in FIELDS.items():
        chosen = choose_planted(field, 4)
        places = [planted.index(mutant) for mutant in chosen]
        edges = [k * len(planted) // 4 for k in range(1, 4)]
        assert [sum(place >= edge for edge in edges) for place in places] == [0, 1, 2, 3]


def _run(*arguments: str) -> tuple[int, int, str]:
    """Return how many mutants were planted, how many died, and the table."""
    command = [sys.executable, "-m", "tests.mutants.run_mutants", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    numbers = re.search(r"together \| (\d+) \| (\d+) ", done.stdout)
    assert numbers is not None, done.stdout
    return int(numbers[1]), int(numbers[2]), done.stdout


@pytest.mark.slow
def test_nine_of_ten_mutants_die() -> None:
    planted, died, table = _run("--count", "8")
    assert planted >= 60
    assert died >= 0.9 * planted, table


@pytest.mark.slow
def test_nine_of_ten_mutants_chosen_by_hand_die() -> None:
    planted, died, table = _run("--planted", "--count", "8")
    assert planted == 8 * len(FIELDS)
    assert died >= 0.9 * planted, table
