"""Evaluation data that are damaged or hostile: read whole, or refused with a UsageError."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.fitted_images import MaskFiles
from dfqonnx.data.task_data import EvalRequest, open_task_data
from dfqonnx.data.unlabeled import open_images, verify_images
from dfqonnx.data.verify_task_data import verify_task_data
from dfqonnx.errors import UsageError
from tests.fuzz.damage import SIDE, damaged
from tests.fuzz.odd_values import odd

GROWTH = 400 * 2**20  # bytes: a picture of 67 million pixels, and Python's own
SECONDS = 20.0
SIZE = (SIDE, SIDE, 3)
INPUTS = InputFormat(PRESETS["raw"], (3, SIDE, SIDE))
SAMPLES = InputFormat(PRESETS["raw"], (8,))
Writer = Callable[[int, Path], tuple[Path, str]]


def outcome(path: Path) -> str:
    """Read `path` as every command does; `fine`, or the message of the refusal."""
    inputs = SAMPLES if path.suffix in {".wav", ".npy"} else INPUTS
    try:
        verify_task_data(path)
        data = open_task_data(path, EvalRequest(inputs=inputs, classes=4))
        for batch in data.tensors(inputs):
            assert np.isfinite(batch).all()
        if isinstance(data.labels, MaskFiles):
            data.labels.read_masks(0, len(data.labels))
    except UsageError as error:
        return str(error)
    return "fine"


def as_unlabeled(path: Path) -> None:
    """The same as images without labels."""
    try:
        verify_images(path)
        images, count = open_images(path, SIZE)
        images.read(0, count)
    except UsageError:
        pass


def sweep(seeds: range, place: Path, write: Writer = damaged) -> dict[str, int]:
    """Read the data that `write` makes of every seed; count what was fine and what was refused."""
    process, counts = psutil.Process(), {"fine": 0, "refused": 0}
    start = process.memory_info().rss
    for seed in seeds:
        folder = place / str(seed)
        folder.mkdir()
        path, what = write(seed, folder)
        began = time.monotonic()
        said = outcome(path)
        if path.is_dir() or path.suffix == ".npz":
            as_unlabeled(path)
        where = f"seed {seed} ({what})"
        assert time.monotonic() - began < SECONDS, where
        assert process.memory_info().rss - start < GROWTH, where
        counts["fine" if said == "fine" else "refused"] += 1
        if said != "fine":
            assert str(folder) in said, f"{where}: {said}"
            assert " at 0x" not in said, f"{where}: {said}"
            assert len(said) < 2000, where
            assert "\n" not in said, f"{where}: {said}"
        shutil.rmtree(folder)
    return counts


def test_damaged_data_are_refused_with_their_name(tmp_path: Path) -> None:
    counts = sweep(range(96), tmp_path)
    assert counts["refused"] > 48  # most damage is seen
    assert counts["fine"] > 5  # and a flipped pixel is none


def test_data_that_say_what_cannot_be_are_refused_with_their_name(tmp_path: Path) -> None:
    counts = sweep(range(140), tmp_path, odd)
    assert counts["refused"] > 70
    assert counts["fine"] > 5


@pytest.mark.slow
def test_seven_hundred_more_of_them_are_refused(tmp_path: Path) -> None:
    counts = sweep(range(140, 840), tmp_path, odd)
    assert counts["refused"] > 350


@pytest.mark.slow
def test_five_hundred_damaged_files_are_refused_with_their_name(tmp_path: Path) -> None:
    counts = sweep(range(96, 600), tmp_path)
    assert counts["refused"] > 250
