"""Evaluation data read once from end to end before any model is opened, so that damage ends early.

What is read for a model of a certain size is not known yet, so images are fitted to a single pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.file_tree import FLAG, FileTree, open_tree
from dfqonnx.data.fitted_images import FittedImages, MaskFiles
from dfqonnx.data.labeled import check_kind, verify_eval_data
from dfqonnx.data.parquet_images import holds_parquet, open_rows, read_parquet
from dfqonnx.data.task_data import EvalRequest, is_known_kind, read_layout, read_table
from dfqonnx.data.usual_arrays import read_usual_arrays
from dfqonnx.data.waves import SUFFIX, open_wave_tree, read_wave

_PIXEL = InputFormat(PRESETS["raw"], (3, 1, 1))
_FILES = EvalRequest(inputs=_PIXEL, checks_files_only=True)


def verify_task_data(path: Path) -> None:
    """Read everything at `path` once.

    Raises:
        UsageError: something is damaged, or of no known layout; file and entry are named.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        read_usual_arrays(path, flag=FLAG)
    elif holds_parquet(path):
        open_rows(path, read_parquet(path, flag=FLAG), (1, 1, 1)).check()
    elif suffix == SUFFIX:
        _verify_waves(open_wave_tree(path))
    elif is_known_kind(path):
        _verify_images(read_table(open_tree(path.parent), path.name, _FILES))
    elif check_kind(path) == "npz":
        _verify_arrays(path)
    else:
        tree = open_tree(path)
        if tree.named(SUFFIX) and not tree.images():
            _verify_waves(tree)
            return
        found = read_layout(tree, _FILES)
        if found is None:
            verify_eval_data(path)
        else:
            _verify_images(found)


def _verify_arrays(path: Path) -> None:
    """Read x and y; images with classes are checked as such."""
    arrays = read_usual_arrays(path, flag=FLAG)
    is_image = arrays["x"].dtype == np.uint8 and arrays["x"].ndim >= 3
    if is_image and "y" in arrays and arrays["y"].dtype.kind in "iu" and arrays["y"].ndim == 1:
        verify_eval_data(path)


def _verify_waves(tree: FileTree) -> None:
    for name in tree.named(SUFFIX):
        read_wave(tree.read(name), tree.where(name))


def _verify_images(data: EvalData) -> None:
    if isinstance(data.images, FittedImages):
        data.images.check()
    if isinstance(data.labels, MaskFiles):
        for place in range(len(data.labels)):
            data.labels.read_masks(place, place + 1)
