"""Recipes: shipped, found, read strictly, written back in full."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from dfqonnx.errors import UsageError
from dfqonnx.spec.recipe import read_recipe, recipe_folder, shipped_recipes, write_recipe
from dfqonnx.spec.run import Recipe
from tests.cli.conftest import Run


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_default_and_ptq_are_shipped_and_say_what_they_are() -> None:
    shipped = shipped_recipes()
    assert {"default", "ptq"} <= set(shipped)
    assert all(recipe.about for recipe in shipped.values())
    assert shipped["ptq"].distill.steps == 0


def test_the_wheel_takes_the_recipes_along(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "pipelines/*.yaml" in wheel["include"]
    assert wheel["sources"] == {"pipelines": "dfqonnx/pipelines"}
    assert recipe_folder().name == "pipelines"


def test_a_recipe_written_in_full_reads_back_the_same(tmp_path: Path) -> None:
    for recipe in shipped_recipes().values():
        text = write_recipe(recipe, header="made by a test\nin two lines")
        assert text.startswith("# made by a test\n# in two lines\n")
        assert read_recipe(written(tmp_path, text)) == recipe


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, "distill: {weight_rate: 1e-3}\n"))
    assert recipe.name == "mine"
    assert recipe.distill.weight_rate == 0.001
    assert recipe.distill.batch == Recipe().distill.batch
    assert recipe.synth == Recipe().synth


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distil: {steps: 1}\n", "unknown key 'distil'; did you mean 'distill'?"),
        ("distill: {stpes: 1}\n", "unknown key 'distill.stpes'; did you mean 'steps'?"),
        ("synth: {zzz: 1}\n", "unknown key 'synth.zzz' Known here: source,"),
        ("distill: {steps: many}\n", "distill.steps = 'many'"),
        ("distill: {batch: 1.5}\n", "distill.batch = 1.5"),
        ("distill: {steps: -1}\n", "must be 0 or more"),
        ("distill: 3\n", "distill = 3"),
    ],
)
def test_a_wrong_recipe_says_where_and_what(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(written(tmp_path, text))
    assert words in str(caught.value)


def test_the_command_lists_them_and_prints_one_that_runs_again(
    dfqonnx: Run, tmp_path: Path
) -> None:
    listed = dfqonnx("recipes")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()][:2] == ["default", "ptq"]
    printed = dfqonnx("recipes", "ptq")
    assert read_recipe(written(tmp_path, printed.out)).distill == read_recipe("ptq").distill
    as_json = json.loads(dfqonnx("recipes", "--json").out)
    assert [recipe["name"] for recipe in as_json][:2] == ["default", "ptq"]
    assert dfqonnx("recipes", "pqt").code == 2
