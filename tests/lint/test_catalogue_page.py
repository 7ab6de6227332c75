"""The page of the linter says what the catalogue says."""

from __future__ import annotations

from dfqonnx.lint.rule import RULES
from tests.lint.catalogue_page import GROUPS, PAGE, render


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "write it anew: python -m tests.lint.catalogue_page"
    )


def test_every_rule_stands_on_the_page_once() -> None:
    page = render()
    for name in RULES:
        assert page.count(f"### {name} ") == 1
    assert len(GROUPS) == 4
