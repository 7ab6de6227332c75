"""What every term of every published recipe does: the page that is kept, and the measuring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines" / "benchmarks"))

from terms import TermFigure, measure_terms, read_figures, shorten, write_page

from dfqonnx.config.recipe import Recipe, read_recipe, recipe_scales, shipped_recipes

OURS = {"cluster", "margin", "logit", "competition"}  # added to a class term or to statistics
NAMES = [name for name, recipe in shipped_recipes().items() if recipe.paper and name != "dfq"]


def published(name: str) -> Recipe:
    return read_recipe(name, scale="paper" if "paper" in recipe_scales(name) else None)


def check(figures: list[TermFigure], recipe: Recipe) -> None:
    """Every term has a gradient, and one that is added to others is not all there is."""
    assert figures
    for figure in figures:
        assert figure.acts != "**no**", figure
        assert figure.term not in OURS or figure.share < 0.9, figure
    terms = [*recipe.synthesis.losses, *recipe.distillation.losses]
    if recipe.synthesis.source == "gaussian":  # optimizes nothing
        terms = list(recipe.distillation.losses)
    if recipe.distillation.steps == 0:
        terms = list(recipe.synthesis.losses)
    weights = sorted((term.name, term.weight) for term in terms if term.weight)
    assert sorted((figure.term, figure.weight) for figure in figures) == weights


@pytest.mark.parametrize("name", NAMES)
def test_on_the_page_every_term_of_a_published_recipe_acts(name: str, root: Path) -> None:
    kept = read_figures(root / "pipelines" / "results" / "terms.jsonl")
    check([figure for figure in kept if figure.recipe == name], published(name))


def test_the_page_is_made_from_the_records(root: Path) -> None:
    kept = read_figures(root / "pipelines" / "results" / "terms.jsonl")
    page = (root / "pipelines" / "results" / "TERMS.md").read_text(encoding="utf-8")
    assert page == write_page(kept, "resnet20.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_term_acts_on_a_trained_network(name: str, root: Path) -> None:
    recipe = published(name)
    found = measure_terms(root / "models" / "resnet20.onnx", shorten(recipe), preprocess="cifar10")
    check(found, recipe)
