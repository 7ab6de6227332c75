"""The user's own few images, without labels: most join the work, the rest is held out for measures.

N images -> one in HELD_OUT_OF, chosen by the seed, is never worked with
-> the others set ranges and train beside the synthetic ones
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.unlabeled import open_images
from dfqonnx.errors import UsageError

FLAG = "--calibrate-with"
HELD_OUT_OF = 4  # images, one is held out
MOST = 4096  # images that are used
FEWEST = 2  # images that can be split


@dataclass(frozen=True)
class OwnImages:
    """Unlabeled images of the user, each uint8 (N, H, W, C); both parts may be empty."""

    work: NDArray[np.uint8]
    held_out: NDArray[np.uint8]


def read_own_images(path: Path, inputs: InputFormat, *, seed: int) -> OwnImages:
    """Read the images at `path` and split them; of very many, some spread over all are taken.

    Raises:
        UsageError: there are none, too few, or the model reads no images.
    """
    if not inputs.is_image:
        form = "x".join(map(str, inputs.shape))
        raise UsageError(f"{FLAG} {path}: takes images, and the model reads {form} values")
    source, count = open_images(path, inputs.image_size, flag=FLAG)
    if count < FEWEST:
        raise UsageError(f"{FLAG} {path}: holds {count} image; at least {FEWEST} are needed")
    chosen = np.linspace(0, count - 1, min(count, MOST)).astype(int)
    pixels = np.concatenate([source.read(int(at), int(at) + 1) for at in chosen])
    order = np.random.default_rng(seed).permutation(len(pixels))
    held = max(1, len(pixels) // HELD_OUT_OF)
    return OwnImages(work=pixels[order[held:]], held_out=pixels[order[:held]])


def refuse_shared_images(own: Path | None, **measured: Path | None) -> None:
    """Refuse to measure on images that are worked with.

    Raises:
        UsageError: two options name the same place.
    """
    for name, other in measured.items():
        if own is not None and other is not None and own.resolve() == other.resolve():
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{FLAG} {own}: is also {flag}, and a measure on what was worked with says nothing;"
                f" one image in {HELD_OUT_OF} is held out by itself, so leave {flag} out, or give"
                " other images"
            )
