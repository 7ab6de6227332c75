"""One thread for torch, and where the measuring material lies when it is there."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports ONNX Runtime
os.environ["DFQONNX_CACHE"] = tempfile.mkdtemp(prefix="dfqonnx-tests-")  # never the user's own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any imports torch: a worker runs on a core

from tests.integer_kernels import add_exactly, read_tests

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs exact integer kernels where ONNX Runtime's overflow; see the module."""
    if add_exactly():
        return
    why = pytest.mark.skip(reason="8-bit kernels overflow here: the processor has no VNNI")
    needing = read_tests()
    for item in items:
        if item.nodeid.partition("[")[0] in needing:
            item.add_marker(why)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_is_left() -> Iterator[None]:
    """The folder that fixtures of a whole file keep results in goes at the end."""
    yield
    shutil.rmtree(os.environ["DFQONNX_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test keeps results in a folder of its own, and finds none of another."""
    monkeypatch.setenv("DFQONNX_CACHE", str(tmp_path_factory.mktemp("cache") / "dfqonnx"))


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


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes started within get an interrupt although the suite runs in a shell's background.

    Such a shell lets its children ignore SIGINT, and theirs too; what has a handler here is reset
    to the default in a child.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
