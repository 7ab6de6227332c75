"""The list of tests that need exact integer kernels names tests that are there."""

from __future__ import annotations

from pathlib import Path

from tests.integer_kernels import read_tests


def test_every_listed_test_is_there(root: Path) -> None:
    listed = sorted(read_tests())
    assert listed
    for line in listed:
        file, _, function = line.partition("::")
        assert f"def {function.rpartition('::')[2]}(" in (root / file).read_text("utf-8"), line
