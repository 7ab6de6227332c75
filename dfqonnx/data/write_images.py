"""Images on disk, complete or absent: npz, npy, or a folder of PNG files."""

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
class WrittenImages:
    """What is to be written.

    Attributes:
        pixels: uint8 (N, H, W, C).
        classes: int64 (N) as the network sees them; None where it tells none apart.
        tensor: float32, for an npy; None elsewhere.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int64] | None
    tensor: NDArray[np.float32] | None = None


def check_images_out(spec: SynthConfig) -> None:
    """Refuse a place that could not be written at the end.

    Raises:
        UsageError: a folder with something in it, or a folder where a file is to be.
        EnvironmentProblem: it cannot be written to.
    """
    out = spec.out
    if spec.kind != "folder":
        check_file_out(out)
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; end it with .npz or .npy, or give a folder")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: is not empty; choose an empty or new folder")
    check_writable(out.absolute().parent, out=out)


def write_images_out(spec: SynthConfig, made: WrittenImages) -> None:
    """Write the images to `spec.out`.

    Raises:
        EnvironmentProblem: the disk is full or fails.
    """
    with atomic_file(spec.out) as place:
        if spec.kind == "folder":
            _write_folder(place, made)
        elif made.tensor is not None:
            with place.open("wb") as file:
                np.save(file, made.tensor, allow_pickle=False)
        else:
            arrays: dict[str, Any] = {"x": made.pixels}
            if made.classes is not None:
                arrays["y"] = made.classes
            with place.open("wb") as file:
                np.savez_compressed(file, **arrays)


def _write_folder(folder: Path, made: WrittenImages) -> None:
    """Write NNNNN.png and, where classes are known, labels.csv."""
    folder.mkdir()
    digits = max(5, len(str(len(made.pixels) - 1)))
    names = [f"{index:0{digits}d}.png" for index in range(len(made.pixels))]
    for name, image in zip(names, made.pixels, strict=True):
        flat = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(flat).save(folder / name)
    if made.classes is not None:
        rows = [f"{n},{c}\n" for n, c in zip(names, made.classes.tolist(), strict=True)]
        (folder / "labels.csv").write_text("file,label\n" + "".join(rows), encoding="utf-8")
