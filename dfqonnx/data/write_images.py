"""Writing synthetic images, complete or absent.

NAME.npz    x uint8 (N, H, W, C), and y, the network's classes, where it has some
NAME.npy    one float32 array, as other toolchains calibrate with
NAME        a folder of PNG files, and labels.csv where the network has classes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.config.commands import SynthConfig
from dfqonnx.core.atomic_write import atomic_file, check_file_out, check_writable
from dfqonnx.errors import UsageError


@dataclass(frozen=True)
class LabeledPixels:
    """The images to write."""

    pixels: NDArray[np.uint8]  # (N, H, W, C)
    classes: NDArray[np.int64] | None  # (N,) the network's; None where it has none
    tensor: NDArray[np.float32] | None = None  # for an npy; None for other kinds


def check_images_out(config: SynthConfig) -> None:
    """Refuse a place that could not be written at the end.

    Raises:
        UsageError: a folder with something in it, or a folder where a file is to be.
        EnvironmentProblem: it cannot be written to.
    """
    out = config.out
    if config.kind != "folder":
        check_file_out(out)
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; end it with .npz or .npy, or give a folder")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: is not empty; choose an empty or new folder")
    check_writable(out.absolute().parent, out=out)


def write_images_out(config: SynthConfig, images: LabeledPixels) -> None:
    """Write the images to `config.out`.

    Raises:
        EnvironmentProblem: the disk is full or fails.
    """
    with atomic_file(config.out) as place:
        if config.kind == "folder":
            _write_folder(place, images)
        elif images.tensor is not None:
            with place.open("wb") as file:
                np.save(file, images.tensor, allow_pickle=False)
        else:
            arrays: dict[str, Any] = {"x": images.pixels}
            if images.classes is not None:
                arrays["y"] = images.classes
            with place.open("wb") as file:
                np.savez_compressed(file, **arrays)


def _write_folder(folder: Path, images: LabeledPixels) -> None:
    """Write NNNNN.png and, where classes are known, labels.csv."""
    folder.mkdir()
    digits = max(5, len(str(len(images.pixels) - 1)))
    names = [f"{index:0{digits}d}.png" for index in range(len(images.pixels))]
    for name, image in zip(names, images.pixels, strict=True):
        flat = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(flat).save(folder / name)
    if images.classes is not None:
        rows = [f"{n},{c}\n" for n, c in zip(names, images.classes.tolist(), strict=True)]
        (folder / "labels.csv").write_text("file,label\n" + "".join(rows), encoding="utf-8")
