"""docs/estimate.md says what the stored students say."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.evaluation.drop_estimate.calibration_set import read_known_students
from dfqonnx.evaluation.drop_estimate.regression import Basis, cross_validate, shipped_predictions

BASES: tuple[Basis, ...] = ("fixed", "real")


def test_the_page_tells_the_figures_of_the_stored_students(root: Path) -> None:
    page = (root / "docs" / "estimate.md").read_text(encoding="utf-8")
    assert f"{len(read_known_students())} students of seven networks" in page
    for basis, name in zip(BASES, ("fixed images", "64 real images, no labels"), strict=True):
        found = cross_validate(shipped_predictions(basis))
        figures = f"| {name} | {found.rank_correlation:.2f} | {found.coverage:.0%}"
        assert figures.replace("%", " %") in page


def test_the_page_tells_every_network(root: Path) -> None:
    page = (root / "docs" / "estimate.md").read_text(encoding="utf-8")
    for network in {known.network for known in read_known_students()}:
        own = [
            [t for t in shipped_predictions(basis) if t.student.network == network]
            for basis in BASES
        ]
        drops = [t.student.drop for t in own[0]]
        inside = " | ".join(str(sum(t.inside for t in part)) for part in own)
        row = f"| {network} | {len(drops)} | {min(drops):.2f} to {max(drops):.1f} | {inside} |"
        assert row in page
