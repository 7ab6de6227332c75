"""The user's own few inputs, without labels: most join the work, the rest is held out for measures.

N inputs -> one in HELD_OUT_OF, chosen by the seed, is never worked with
-> the others set ranges and train beside the synthetic ones

A model that reads no images takes arrays and wav files. They join as pixels, as all inputs of a run
do: 256 levels over the values that inputs are taken to have. Arrays that reach beyond are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.class_labels import KnownClasses
from dfqonnx.data.file_tree import FLAG as EVAL_FLAG
from dfqonnx.data.input_arrays import read_input_values
from dfqonnx.data.unlabeled import open_images, verify_images
from dfqonnx.data.waves import SUFFIX as WAV
from dfqonnx.data.waves import find_waves, read_wave, read_waves
from dfqonnx.errors import UsageError

FLAG = "--calibrate-with"
HELD_OUT_OF = 4  # images, one is held out
MOST = 4096  # images that are used
FEWEST = 2  # images that can be split
ARRAYS = {".npz", ".npy"}
SOUND = (WAV, ".tar")  # files beside those of images and arrays
MOST_BEYOND = 0.01  # of all values


@dataclass(frozen=True)
class OwnImages:
    """Unlabeled inputs of the user, each uint8 (N, H, W, C); both parts may be empty."""

    work: NDArray[np.uint8]
    held_out: NDArray[np.uint8]


def verify_own_images(path: Path) -> None:
    """Read everything at `path` once from end to end.

    Raises:
        UsageError: something is damaged; the message names the file and the entry.
    """
    with _own_flag():
        waves = find_waves(path)
        if waves is not None:
            for name in waves.named(WAV):
                read_wave(waves.read(name), waves.where(name))
            return
    verify_images(path, flag=FLAG)


def read_own_images(path: Path, inputs: InputFormat, *, seed: int) -> OwnImages:
    """Read the inputs at `path` and split them; of very many, some spread over all are taken.

    Raises:
        UsageError: there are none, too few, or what is there is nothing that the model reads.
    """
    pixels = _read_pixels(path, inputs) if inputs.is_image else _read_values(path, inputs)
    if len(pixels) < FEWEST:
        what = "image" if inputs.is_image else "input"
        raise UsageError(f"{FLAG} {path}: holds {len(pixels)} {what}; at least {FEWEST} are needed")
    order = np.random.default_rng(seed).permutation(len(pixels))
    held = max(1, len(pixels) // HELD_OUT_OF)
    return OwnImages(work=pixels[order[held:]], held_out=pixels[order[:held]])


def _read_pixels(path: Path, inputs: InputFormat) -> NDArray[np.uint8]:
    if find_waves(path) is not None:
        raise UsageError(f"{FLAG} {path}: holds wav files, and the model reads images")
    source, count = open_images(path, inputs.image_size, flag=FLAG)
    return np.concatenate([source.read(at, at + 1) for at in _choose(count)])


def _read_values(path: Path, inputs: InputFormat) -> NDArray[np.uint8]:
    """Return inputs that are no images as pixels (N, H, W, C).

    Raises:
        UsageError: they are of another shape, or lie beyond the values that inputs are taken to
            have.
    """
    with _own_flag():
        waves = find_waves(path)
        if waves is not None:
            values = read_waves(waves, inputs.shape, KnownClasses(None)).tensors.values
    if waves is None and (path.is_dir() or path.suffix.lower() not in ARRAYS):
        form = "x".join(map(str, inputs.shape))
        raise UsageError(
            f"{FLAG} {path}: the model reads {form} values and no images; give an npz with x or an"
            f" npy of shape (N, {form.replace('x', ', ')}), or wav files for a model of samples"
        )
    if waves is None:
        values = read_input_values(path, inputs.shape, flag=FLAG)
    values = values[_choose(len(values))].astype(np.float32)
    pixels = inputs.to_pixels(values)
    _refuse_cut_off(path, inputs, values, pixels)
    return pixels


def _refuse_cut_off(
    path: Path, inputs: InputFormat, values: NDArray[np.float32], pixels: NDArray[np.uint8]
) -> None:
    """Refuse values of which many lie beyond those that the inputs are taken to have."""
    ends = [inputs.to_tensor(np.full_like(pixels[:1], end)) for end in (0, 255)]
    low, high = np.minimum(*ends), np.maximum(*ends)  # (1, *shape)
    step = (high - low) / 255
    beyond = float(((values < low - step) | (values > high + step)).mean())
    if beyond > MOST_BEYOND:
        raise UsageError(
            f"{FLAG} {path}: {100 * beyond:.0f} % of its values, {values.min():g} to"
            f" {values.max():g}, lie beyond {low.min():g} to {high.max():g}, which the model's"
            " inputs are taken to have; say what they have with --preprocess FILE.yaml (channels:"
            " values, mean, std)"
        )


def _choose(count: int) -> NDArray[np.int64]:
    """Return the places of at most `MOST` inputs, spread over all."""
    return np.linspace(0, max(0, count - 1), min(count, MOST)).astype(np.int64)


@contextmanager
def _own_flag() -> Iterator[None]:
    """Name this option where readers of `--eval-data` name theirs."""
    try:
        yield
    except UsageError as error:
        raise UsageError(error.message.replace(f"{EVAL_FLAG} ", f"{FLAG} ")) from None


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
