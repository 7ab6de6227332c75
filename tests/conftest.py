"""One thread for torch, and where the measuring material lies when it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real models and test sets beside the repository; skips where there are none."""
    if not (SHARED / "models" / "manifest.json").is_file():
        pytest.skip("../shared with models and data is not there")
    return SHARED
