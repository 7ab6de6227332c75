"""The page of the methods side by side: what is measured, and what says that it was not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines" / "benchmarks"))

from ancestors import effective_rank, lines, rows, spread_within, training_recipes, with_leaves
from tables.ancestors_page import LEAVES, OWN, Pictured, Trained, write_page
from terms import TermFigure, shorten
from terms import write_page as write_terms

from dfqonnx.config.recipe import read_recipe


def run(seed: int, images: str, untrained: float, drop: float) -> Trained:
    return Trained(
        model="net",
        recipe="gdfq",
        bits="w4a4",
        ends="as the rest",
        seed=seed,
        images=images,
        teacher=91.0,
        untrained=untrained,
        drop=drop,
        kept=True,
        seconds=60.0,
        machine="a machine",
    )


def test_gain_and_what_own_images_add_are_means_over_seeds() -> None:
    found = [run(0, OWN, 2.0, 1.0), run(1, OWN, 2.2, 1.4), run(0, LEAVES, 2.1, 1.5)]
    wanted = [("net", "gdfq", "w4a4", "as the rest"), ("net", "lrq", "w3a3", "8")]
    seen = Pictured("gdfq", 64, divergence=0.5, confidence=0.9, rank=9.0, spread=0.1, picture="")
    text = write_page(wanted, found, [seen])
    row, images = [line for line in text.splitlines() if line.startswith("| gdfq")]
    assert "| 0.100 | 0.90 (0.80 .. 1.00) | not measured |" in images
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3:8] == ["2", "2.10", "1.20 (1.00 .. 1.40)", "0.90 (0.80 .. 1.00)", "2 of 2"]
    assert cells[8:10] == ["1.50", "0.50"]  # of seed 0, the only one with both
    (other,) = [line for line in text.splitlines() if line.startswith("| lrq")]
    assert "not measured" in other


def test_every_training_recipe_has_rows_and_the_papers_ends() -> None:
    named = training_recipes()
    assert {"default", "clusterq", "lrq", "dfqf", "knowledge-within-bns"} <= set(named)
    assert not {"dfq", "zeroq", "ptq"} & set(named)
    of_dfqf = [row[2:] for row in rows(named) if row[1] == "dfqf"]
    assert ("w4a4", "8") in of_dfqf
    assert ("w4a4", "as the rest") in of_dfqf
    assert ("w2a4", "4") in [row[2:] for row in rows(named) if row[1] == "knowledge-within-bns"]
    todo = lines(named, [0, 1])
    assert len({line.name for line in todo}) == len(todo)
    assert [line.seed for line in todo] == sorted(line.seed for line in todo)


def test_leaves_take_the_place_of_images_and_nothing_else() -> None:
    recipe = read_recipe("clusterq")
    leaves = with_leaves(recipe)
    assert leaves.synthesis.source == "dead-leaves"
    assert leaves.distillation == recipe.distillation
    assert leaves.synthesis.images == recipe.synthesis.images


def test_the_rank_of_an_isotropic_cloud_is_its_dimension() -> None:
    cloud = np.random.default_rng(0).normal(size=(20_000, 5))
    assert effective_rank(cloud) == pytest.approx(5.0, rel=1e-3)  # eigenvalues within 2 %
    assert effective_rank(cloud * [1, 0, 0, 0, 0]) == pytest.approx(1.0)


def test_the_spread_is_that_of_unit_features_around_their_class() -> None:
    features = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0], [1.0, 0.0]])
    # class 0: (1, 0) and (0, 1), each half a unit square off their middle; class 1: no spread
    assert spread_within(features, np.array([0, 0, 1, 1])) == pytest.approx((0.5 + 0.5) / 4)


def test_a_term_without_a_gradient_does_not_act() -> None:
    names = {"recipe": "lrq", "scale": "paper", "network": "images"}
    figures = [
        TermFigure(term="class", weight=1.0, value=2.0, share=1.0, **names),
        TermFigure(term="margin", weight=0.5, value=0.0, share=0.0, **names),
    ]
    text = write_terms(figures, "net")
    assert "| class | 1 | 2 | 100.00% | yes |" in text
    assert "| margin | 0.5 | 0 | 0.00% | **no** |" in text


def test_a_term_that_begins_late_is_brought_forward() -> None:
    recipe = shorten(read_recipe("clusterq", scale="paper"), steps=30)
    (term,) = [term for term in recipe.synthesis.losses if term.name == "cluster"]
    assert dict(term.settings)["after"] == 10
    assert recipe.synthesis.generator.iterations == 30
