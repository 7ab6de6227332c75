"""`dfqonnx synth`: every kind of output, read back as other tools would."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from dfqonnx.report.html.images import class_sheet
from tests.cli.conftest import Run

RECIPE = "synthesis: {source: dead-leaves}\n"
INVERTED = """
synthesis:
  source: optimized
  dead_leaves_fraction: 0
  losses: {class: 1.0, competition: {weight: 1.0, temperature: 3}}
  pixels: {start: noise, first_batch_steps: 2, batch_steps: 1, lr_schedule: plateau}
"""


def answers(model: Path, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[int]:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found: list[int] = session.run(None, {"x": x})[0].argmax(1).tolist()
    return found


@pytest.fixture
def words(small: Path, tmp_path: Path) -> tuple[str | Path, ...]:
    (tmp_path / "leaves.yaml").write_text(RECIPE)
    (tmp_path / "inverted.yaml").write_text(INVERTED)
    return ("synth", "--model", small, "--preprocess", "zero-one", "-n", "12")


def test_an_npz_holds_pixels_and_the_networks_classes_with_a_sheet_beside(
    words: tuple[str | Path, ...], small: Path, dfqonnx: Run, tmp_path: Path
) -> None:
    done = dfqonnx(*words, "--recipe", "inverted.yaml", "--out", "deep/images.npz")
    assert done.code == 0, done.err
    with np.load(tmp_path / "deep" / "images.npz") as found:
        x, y = found["x"], found["y"]
    assert (x.dtype, x.shape) == (np.uint8, (12, 8, 8, 3))
    assert y.tolist() == answers(small, (x / np.float32(255)).transpose(0, 3, 1, 2))
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {
        "images.npz", "images-sheet.png",
    }  # fmt: skip
    with Image.open(tmp_path / "deep" / "images-sheet.png") as sheet:
        assert sheet.mode == "RGB"
    last = done.out.splitlines()[-1]
    assert last.startswith("Next: look at the sheet, then dfqonnx run ")


def test_a_folder_holds_png_files_that_measure_as_evaluation_data(
    words: tuple[str | Path, ...], small: Path, dfqonnx: Run, tmp_path: Path
) -> None:
    assert dfqonnx(*words, "--recipe", "leaves.yaml", "--out", "folder", "--quiet").out == ""
    assert dfqonnx(*words, "--recipe", "leaves.yaml", "--out", "same.npz", "--quiet").code == 0
    with (tmp_path / "folder" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([np.asarray(Image.open(tmp_path / "folder" / row["file"])) for row in rows])
    with np.load(tmp_path / "same.npz") as found:  # same seed, same images; PNG loses nothing
        np.testing.assert_array_equal(pixels, found["x"])
        assert [int(row["label"]) for row in rows] == found["y"].tolist()
    assert (tmp_path / "folder-sheet.png").is_file()
    data = ("--eval-data", tmp_path / "folder", "--preprocess", "zero-one", "--json")
    held = dfqonnx("validate", "--teacher", small, "--student", small, *data)
    assert json.loads(held.out)["teacher"]["top1"]["value"] == 100.0


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_an_npy_holds_floats_in_the_layout_asked_for(
    layout: str, words: tuple[str | Path, ...], small: Path, dfqonnx: Run, tmp_path: Path
) -> None:
    more = ("--recipe", "leaves.yaml", "--quiet", "--layout", layout)
    assert dfqonnx(*words, *more, "--out", "raw.npy").code == 0
    assert dfqonnx(*words, *more, "--out", "fed.npy", "--preprocessed").code == 0
    raw, fed = np.load(tmp_path / "raw.npy"), np.load(tmp_path / "fed.npy")
    assert raw.dtype == fed.dtype == np.float32
    assert raw.shape == fed.shape == ((12, 8, 8, 3) if layout == "NHWC" else (12, 3, 8, 8))
    assert raw.max() > 1.0
    np.testing.assert_array_equal(raw, np.rint(raw))
    np.testing.assert_allclose(fed, raw / 255, rtol=1e-6)  # one float32 division
    if layout == "NCHW":  # what the model reads
        assert len(answers(small, fed)) == 12


def test_json_tells_what_was_made(
    words: tuple[str | Path, ...], dfqonnx: Run, tmp_path: Path
) -> None:
    found = json.loads(dfqonnx(*words, "--recipe", "leaves.yaml", "--out", "a.npz", "--json").out)
    assert (found["out"], found["sheet"], found["generator"]) == ("a.npz", "a-sheet.png", None)
    assert (found["count"], found["source"], found["recipe"]) == (12, "dead-leaves", "leaves")
    assert sum(found["classes"].values()) == 12
    assert found["divergence"] is None  # this network has no BatchNormalization


def test_a_generator_is_kept_and_makes_the_same_images_again(
    words: tuple[str | Path, ...], dfqonnx: Run, tmp_path: Path
) -> None:
    text = "synthesis:\n  source: generator\n  losses: {class: 1.0}\n"
    text += "  generator: {architecture: gdfq, latent: 8, iterations: 2, batch_size: 4,\n"
    text += "    width_multiplier: 0.1}\n"
    (tmp_path / "g.yaml").write_text(text)
    done = dfqonnx(*words, "--recipe", "g.yaml", "--out", "g.npz", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["generator"] == "g-generator.npz"
    kept = text.replace(
        "generator: {", f"generator: {{checkpoint: {tmp_path / 'g-generator.npz'}, "
    )
    (tmp_path / "kept.yaml").write_text(kept)
    again = dfqonnx(*words, "--recipe", "kept.yaml", "--out", "again.npz")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--out", "a.jpg"), ".jpg is not written; give NAME.npz"),
        (("--out", "a.npz", "--layout", "NCHW"), "--layout is for calibration arrays"),
        (("--out", "a.npz", "--preprocessed"), "--preprocessed is for calibration arrays"),
        (("--out", "full"), "is not empty"),
        (("--out", "full/here.txt/images.npz"), "is a file, not a folder"),
        (("--out", "a.npz", "-n", "1"), "must be 2 or more"),
        (("--out", "a.npz", "--recipe", "nothing"), "is not a shipped recipe"),
        (("--out", "a.npz", "--recipe", "zeroq"), "needs statistics"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_slow(
    more: tuple[str, ...],
    text: str,
    words: tuple[str | Path, ...],
    dfqonnx: Run,
    tmp_path: Path,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "here.txt").write_text("mine")
    done = dfqonnx(*words, *more)
    assert done.code == 2
    assert text in " ".join(done.err.split())
    assert not (tmp_path / "a.npz").exists()
    assert (tmp_path / "full" / "here.txt").read_text() == "mine"


def test_a_sheet_has_a_row_for_each_of_the_most_frequent_classes() -> None:
    pixels = np.full((7, 4, 5, 3), 255, np.uint8)
    classes = np.array([2, 0, 0, 2, 2, 1, 0])
    for index, number in enumerate(classes):
        pixels[index] = (40 * number, index, 0)
    sheet = np.asarray(class_sheet(pixels, classes, rows=2, columns=3))
    factor = 900 // (3 * 7)
    tall, wide = 4 * factor + 2, 5 * factor + 2
    assert sheet.shape == (2 * tall, 24 + 3 * wide, 3)
    inside = [sheet[r * tall + 3, 24 + c * wide + 3].tolist() for r in (0, 1) for c in (0, 1, 2)]
    assert inside == [[0, 1, 0], [0, 2, 0], [0, 6, 0], [80, 0, 0], [80, 3, 0], [80, 4, 0]]
