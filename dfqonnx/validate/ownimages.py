"""The images that a run kept from training, found beside its student.

FOLDER/NAME.onnx, FOLDER/synthetic/images.npz: x uint8 (N, H, W, C), held: their places among x
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLACE = Path("synthetic") / "images.npz"


def held_out_images(student: Path, size: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """Return the images (N, H, W, C) that the run of `student` held out.

    Args:
        student: the quantized file.
        size: height, width and channels that the model reads.

    Returns:
        None where there are none, of this size, that are known to be held out.
    """
    path = student.parent / PLACE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            if not {"x", "held"} <= set(found.files):
                return None
            images, places = found["x"], found["held"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    fits = images.dtype == np.uint8 and images.shape[1:] == size
    known = places.ndim == 1 and places.size > 0 and np.issubdtype(places.dtype, np.integer)
    if not (fits and known and places.min() >= 0 and places.max() < len(images)):
        return None
    return np.ascontiguousarray(images[places])
