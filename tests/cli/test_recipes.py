"""Recipes: shipped, found, read strictly, written back in full."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.config.recipe import (
    Recipe,
    check_needs,
    nearest_recipe,
    read_recipe,
    recipe_folder,
    recipe_scales,
    shipped_recipes,
    write_recipe,
)
from dfqonnx.errors import UsageError
from tests.cli.conftest import Run


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_default_and_ptq_are_shipped_and_say_what_they_are() -> None:
    shipped = shipped_recipes()
    assert {"default", "ptq"} <= set(shipped)
    assert all(recipe.about for recipe in shipped.values())
    assert shipped["ptq"].distillation.steps == 0


def test_the_wheel_takes_the_recipes_along(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "pipelines/recipes/*.yaml" in wheel["include"]
    assert wheel["sources"] == {"pipelines/recipes": "dfqonnx/recipes"}
    assert recipe_folder().name == "recipes"


def test_a_recipe_written_in_full_reads_back_the_same(tmp_path: Path) -> None:
    for recipe in shipped_recipes().values():
        text = write_recipe(recipe, header="made by a test\nin two lines")
        assert text.startswith("# made by a test\n# in two lines\n")
        assert read_recipe(written(tmp_path, text)) == recipe


def test_the_example_of_the_page_can_be_read(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    recipe = read_recipe(written(tmp_path, example))
    assert recipe.synthesis.source == "generator"
    assert (recipe.scale, recipe.distillation.steps) == ("quick", 200)


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, "distillation: {optimizer: {weight_lr: 1e-3}}\n"))
    assert recipe.name == "mine"
    assert recipe.distillation.optimizer.weight_lr == 0.001
    assert recipe.distillation.batch_size == Recipe().distillation.batch_size
    assert recipe.synthesis == Recipe().synthesis


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distil: {steps: 1}\n", "unknown key 'distil'; did you mean 'distillation'?"),
        ("distillation: {stpes: 1}\n", "unknown key 'distillation.stpes'; did you mean 'steps'?"),
        ("synthesis: {zzz: 1}\n", "unknown key 'synthesis.zzz'. Known here: source,"),
        ("distillation: {steps: many}\n", "distillation.steps = 'many'"),
        ("distillation: {batch_size: 1.5}\n", "distillation.batch_size = 1.5"),
        ("distillation: {steps: -1}\n", "must be 0 or more"),
        ("distillation: 3\n", "distillation = 3"),
        ("distillation: {weight_lr: 1}\n", "did you mean 'distillation.optimizer.weight_lr'?"),
        ("synthesis: {losses: {labls: 1}}\n", "unknown loss 'labls'; did you mean 'labels'?"),
        ("synthesis: {losses: [labels]}\n", "expected `name: weight` pairs"),
        ("synthesis: {losses: {smooth: much}}\n", "synthesis.losses.smooth.weight = 'much'"),
        ("synthesis: {losses: {smooth: {wieght: 1}}}\n", "did you mean 'weight'?"),
        ("scales: {quick: {distil: {}}}\n", "unknown key 'scales.quick.distil'; did you mean"),
        ("scales: 3\n", "scales = 3"),
        ("needs: [luck]\n", "needs.0 = 'luck'"),
    ],
)
def test_a_wrong_recipe_says_where_and_what(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(written(tmp_path, text))
    assert words in str(caught.value)


SCALED = """
synthesis: {images: 64, losses: {labels: 1, smooth: 2}}
scales:
  quick: {distillation: {steps: 3}, synthesis: {losses: {smooth: 1e-3}}}
  paper: {cost: a day, distillation: {steps: 1000}}
"""


def test_a_scale_is_laid_over_the_recipe_and_quick_is_the_one_taken(tmp_path: Path) -> None:
    path = written(tmp_path, SCALED)
    quick, paper = read_recipe(path), read_recipe(path, scale="paper")
    assert (quick.scale, quick.distillation.steps, quick.synthesis.images) == ("quick", 3, 64)
    assert quick.synthesis.losses == (LossTerm("labels", 1.0), LossTerm("smooth", 0.001))
    assert (paper.scale, paper.distillation.steps, paper.cost) == ("paper", 1000, "a day")
    assert paper.synthesis.losses == (LossTerm("labels", 1.0), LossTerm("smooth", 2.0))
    with pytest.raises(UsageError, match=r"no scale 'paer'; it has: quick, paper"):
        read_recipe(path, scale="paer")
    with pytest.raises(UsageError, match=r"no scale 'quick'; it has: none"):
        read_recipe("ptq", scale="quick")


def test_the_command_lists_them_and_prints_one_that_runs_again(
    dfqonnx: Run, tmp_path: Path
) -> None:
    listed = dfqonnx("recipes")
    assert listed.code == 0
    assert {"default", "ptq"} <= {line.split(" ")[0] for line in listed.out.splitlines()}
    printed = dfqonnx("recipes", "ptq")
    assert (
        read_recipe(written(tmp_path, printed.out)).distillation == read_recipe("ptq").distillation
    )
    as_json = json.loads(dfqonnx("recipes", "--json").out)
    assert {"default", "ptq"} <= {recipe["name"] for recipe in as_json}
    assert as_json[0]["synthesis"]["losses"]
    assert dfqonnx("recipes", "pqt").code == 2


PAPERS = ("dfqf", "dfq-akd", "clusterq", "lrq", "gdfq")


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_s_recipe_has_both_scales_and_says_what_it_needs(name: str) -> None:
    assert {"paper", "quick"} <= set(recipe_scales(name))
    quick, paper = read_recipe(name), read_recipe(name, scale="paper")
    assert quick.scale == "quick"
    assert quick.paper
    assert quick.cost != paper.cost
    assert "statistics" in quick.needs
    assert (quick.distillation.steps or 0) < (paper.distillation.steps or 0)
    assert quick.synthesis.source == paper.synthesis.source == "generator"
    assert paper.synthesis.generator.width_multiplier == 1.0  # published numbers of channels


def test_the_published_numbers_of_dfqf_and_dfq_akd_stand_in_their_recipes() -> None:
    dfqf = read_recipe("dfqf", scale="paper")
    losses = {term.name: term.weight for term in dfqf.synthesis.losses}
    assert losses == {
        "confidence": 1, "balance": 40, "batchnorm-pseudo-kl": 0.1, "adversarial": 5,
    }  # fmt: skip
    assert dfqf.synthesis.generator.iterations == 200 * 120
    assert dfqf.distillation.steps == 40 * 391
    akd = read_recipe("dfq-akd", scale="paper")
    assert akd.synthesis.generator.iterations == 50 * 400
    assert akd.distillation.steps == 200 * 400 * 10
    assert (akd.synthesis.co_training.generators, akd.synthesis.co_training.students) == (2, 2)
    assert akd.synthesis.weight("batchnorm-kl-sum") == 0.01


def test_a_model_without_statistics_is_told_the_nearest_recipe_that_works() -> None:
    with pytest.raises(UsageError) as caught:
        check_needs(read_recipe("dfqf"), Path("m.onnx"), available={"classes", "student"})
    words = caught.value.message
    assert "--recipe dfqf needs statistics, and m.onnx has no BatchNormalization" in words
    assert "--recipe default" in words
    check_needs(read_recipe("dfqf"), Path("m.onnx"), available={"classes", "statistics"})
    for recipe in shipped_recipes().values():
        assert not nearest_recipe(recipe, ()).needs


def test_the_default_recipe_needs_nothing() -> None:
    assert not read_recipe("default").needs
    assert nearest_recipe(read_recipe("default"), ()).name == "default"
