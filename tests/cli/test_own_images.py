"""The user's own images: split once, worked with but for the held-out part, and told."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.data.own_images import read_own_images, verify_own_images
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.synthesize import OWN
from tests.cli.conftest import Run

INPUTS = InputFormat(PRESETS["zero-one"], (3, 8, 8))


def numbered(count: int, first: int = 0) -> NDArray[np.uint8]:
    """Images of which each has its own color."""
    return (
        np.full((count, 8, 8, 3), 0, np.uint8)
        + np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]
    )


def saved(folder: Path, count: int) -> Path:
    folder.mkdir()
    for place, pixels in enumerate(numbered(count, 200)):
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return folder


def colors(pixels: NDArray[np.uint8]) -> list[int]:
    return sorted(int(image[0, 0, 0]) for image in pixels)


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (8, 2), (41, 10)])
def test_a_quarter_is_held_out_and_no_image_is_in_both_parts(
    tmp_path: Path, count: int, held: int
) -> None:
    found = read_own_images(saved(tmp_path / "own", count), INPUTS, seed=3)
    assert len(found.held_out) == held
    assert colors(np.concatenate([found.work, found.held_out])) == list(range(200, 200 + count))
    again = read_own_images(tmp_path / "own", INPUTS, seed=3)
    np.testing.assert_array_equal(found.held_out, again.held_out)


VALUES = Preprocessing(name="values", scale=255.0, mean=(0.5,), std=(0.5,), channels="values")


def test_one_image_and_images_for_a_model_that_reads_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 1 image; at least 2"):
        read_own_images(saved(tmp_path / "own", 1), INPUTS, seed=0)
    words = r"40x10 values and no images; give an npz with x or an npy of shape \(N, 40, 10\)"
    with pytest.raises(UsageError, match=words):
        read_own_images(tmp_path / "own", InputFormat(VALUES, (40, 10)), seed=0)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("shape", [(40, 10), (1, 6), (7,), (2, 3, 4)])
def test_arrays_join_where_the_model_reads_no_images(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    inputs = InputFormat(VALUES, shape)
    x = np.random.default_rng(0).uniform(-1, 1, (9, *shape)).astype(np.float32)
    path = tmp_path / f"own{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    else:
        np.savez(path, x=x, y=np.zeros(3))  # labels are not looked at
    verify_own_images(path)
    found = read_own_images(path, inputs, seed=1)
    assert (len(found.work), len(found.held_out)) == (7, 2)
    back = inputs.to_tensor(np.concatenate([found.held_out, found.work]))
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(back, x[order], atol=1.01 / 255, err_msg="half a level of 2 / 255")


def write_wave(path: Path, samples: NDArray[np.float64]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_wav_files_are_cut_into_windows(tmp_path: Path) -> None:
    folder = tmp_path / "sound"
    folder.mkdir()
    tone = 0.5 * np.sin(np.arange(64))
    write_wave(folder / "a.wav", tone)
    write_wave(folder / "b.wav", -tone[:32])
    inputs = InputFormat(VALUES, (16,))
    verify_own_images(folder)
    found = read_own_images(folder, inputs, seed=0)
    assert (len(found.work), len(found.held_out)) == (5, 1)
    back = inputs.to_tensor(np.concatenate([found.work, found.held_out]))
    wanted = np.concatenate([tone, -tone[:32]]).reshape(6, 16)
    for window in wanted:
        assert np.abs(back - window).max(1).min() < 1.1 / 255
    with pytest.raises(UsageError, match=r"calibrate_with .*wav files are for a model that reads"):
        read_own_images(folder, InputFormat(VALUES, (4, 4)), seed=0)
    with pytest.raises(UsageError, match="holds wav files, and the model reads images"):
        read_own_images(folder, INPUTS, seed=0)
    (folder / "b.wav").write_bytes(b"RIFF....")
    with pytest.raises(UsageError, match=r"calibrate_with .*b\.wav"):
        verify_own_images(folder)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.linspace(-1, 3, 60).reshape(6, 10), r"50 % of its values, -1 to 3, lie beyond -1 to 1"),
        (np.zeros((6, 11)), r"x has shape \(6, 11\); expected numbers of shape \(N, 10\)"),
        (np.full((6, 10), np.nan), "input 0 of x is not finite"),
        (np.zeros((1, 10)), "holds 1 input; at least 2"),
        (np.zeros((0, 10)), "it holds no inputs"),
        (np.array([["a"] * 10] * 6), "x is <U1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, x: NDArray[np.float64], words: str
) -> None:
    np.save(tmp_path / "own.npy", x)
    with pytest.raises(UsageError, match=f"calibrate_with .*own.npy.*{words}"):
        read_own_images(tmp_path / "own.npy", InputFormat(VALUES, (10,)), seed=0)


def test_few_values_beyond_the_range_are_cut_off(tmp_path: Path) -> None:
    x = np.zeros((30, 10), np.float32)
    x[0, :2] = 9.0  # 2 of 300
    np.save(tmp_path / "own.npy", x)
    inputs = InputFormat(VALUES, (10,))
    found = read_own_images(tmp_path / "own.npy", inputs, seed=0)
    assert inputs.to_tensor(np.concatenate([found.work, found.held_out])).max() == 1.0


@pytest.mark.parametrize("count", [3, 40])
def test_own_images_are_trained_on_in_equal_shares_and_never_held_out(count: int) -> None:
    kinds = np.repeat([0, 1, OWN], [64, 64, count])
    images = np.concatenate([numbered(128), numbered(count, 200)])
    pool = ImagePool(images, INPUTS, holdout=32, context=RunContext(), kinds=kinds)
    assert max(pool.held_out_indices) < 128
    assert len(pool.held_out) == 16
    first = pool.train[:30].numpy()
    assert sum(color >= 200 for color in colors(first)) == 10, "a third sets the ranges"
    drawn = next(pool.draw(30, __import__("torch").Generator().manual_seed(0))).numpy()
    assert sum(color >= 200 for color in colors(drawn)) == 10


def test_a_run_says_that_images_were_used_and_keeps_none_of_them(
    dfqonnx: Run,
    small: Path,
    tmp_path: Path,
) -> None:
    own = saved(tmp_path / "own", 8)
    recipe = tmp_path / "fast.yaml"
    recipe.write_text(
        "synthesis: {source: dead-leaves, images: 64}\n"
        "distillation: {steps: 0, holdout_images: 8}\n"
    )
    words = ("run", small, "--recipe", recipe, "--preprocess", "zero-one", "--out")
    done = dfqonnx(*words, "with", "--calibrate-with", own)
    assert done.code in {0, 1}, done.err
    assert f"images of {own} join the synthetic ones" in done.err
    assert "6 unlabeled ones joined the synthetic ones" in done.out
    report = json.loads((tmp_path / "with" / "report.json").read_text())
    assert report["images"]["own"] == 6
    assert report["images"]["count"] == 64
    assert f"--calibrate-with {own}" in report["command"]
    kept = np.load(tmp_path / "with" / "synthetic" / "images.npz")["x"]
    assert len(kept) == 64
    assert not {tuple(x) for x in numbered(8, 200)[:, 0, 0].tolist()} & {
        tuple(pixel) for image in kept for row in image.tolist() for pixel in row[:1]
    }
    assert dfqonnx(*words, "without").code in {0, 1}
    one, other = (
        (tmp_path / name / "small.w4a4.onnx").read_bytes() for name in ("with", "without")
    )
    assert one != other, "ranges follow them"


def test_images_that_are_worked_with_are_not_measured_on(
    dfqonnx: Run,
    small: Path,
    tmp_path: Path,
) -> None:
    own = saved(tmp_path / "own", 8)
    for flag in ("--images", "--eval-data"):
        done = dfqonnx("run", small, "--calibrate-with", own, flag, tmp_path / "x" / ".." / "own")
        assert done.code == 2
        done = dfqonnx("run", small, "--calibrate-with", own, flag, own)
        assert f"is also {flag}" in done.err
    done = dfqonnx("run", small, "--calibrate-with", tmp_path / "none")
    assert done.code == 2
    assert "--calibrate-with" in done.err
