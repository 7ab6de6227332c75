"""Evaluation data: what fits is read exactly, what does not is refused with the reason."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.labeled import load_eval_data
from dfqonnx.errors import UsageError
from dfqonnx.workflows.resolve_inputs import open_eval_data
from tests.synthesis.tiny import tiny

SIZE = (8, 6, 3)


def pixels(count: int = 5, size: tuple[int, ...] = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def everything(data: EvalData) -> NDArray[np.uint8]:
    pixels = data.read_pixels(0, len(data))
    assert pixels is not None
    return pixels


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def test_an_npz_is_used_as_it_is(tmp_path: Path) -> None:
    x, y = pixels(), np.arange(5)
    data = load_eval_data(npz(tmp_path, x=x, y=y), SIZE, 5)
    np.testing.assert_array_equal(everything(data), x)
    np.testing.assert_array_equal(data.labels, y)
    assert data.note == ""


@pytest.mark.parametrize("key", ["class_names", "classes", "names"])
def test_names_of_classes_are_read_from_the_npz(key: str, tmp_path: Path) -> None:
    names = np.array(["cat", "dög"])
    path = npz(tmp_path, x=pixels(), y=np.zeros(5, int), **{key: names})
    assert load_eval_data(path, SIZE, 2).class_names == ("cat", "dög")


def test_what_is_no_list_of_names_is_passed_over(tmp_path: Path) -> None:
    path = npz(tmp_path, x=pixels(), y=np.zeros(5, int), classes=np.arange(2))
    assert load_eval_data(path, SIZE, 2).class_names == ()
    path = npz(tmp_path, x=pixels(), y=np.zeros(5, int), names=np.array(["a", None], dtype=object))
    assert load_eval_data(path, SIZE, 2).class_names == ()


def test_a_folder_with_labels_a_folder_of_classes_and_a_tar_give_the_same_pixels(
    tmp_path: Path,
) -> None:
    x, y = pixels(4), [1, 0, 1, 2]
    listed, classes, archive = tmp_path / "listed", tmp_path / "classes", tmp_path / "data.tar"
    (listed / "images").mkdir(parents=True)
    table = "file,label\n" + "".join(f"images/{i}.png,{y[i]}\n" for i in range(4))
    (listed / "labels.csv").write_text(table, encoding="utf-8")
    with tarfile.open(archive, "w") as tar:
        for i in range(4):
            (listed / "images" / f"{i}.png").write_bytes(png(x[i]))
            (classes / str(y[i])).mkdir(parents=True, exist_ok=True)
            (classes / str(y[i]) / f"{i}.png").write_bytes(png(x[i]))
        tar.add(listed, arcname="top")
    for path in (listed, archive):
        data = load_eval_data(path, SIZE, 3)
        np.testing.assert_array_equal(everything(data), x)
        np.testing.assert_array_equal(data.labels, y)
    data = load_eval_data(classes, SIZE, 3)
    np.testing.assert_array_equal(data.labels, sorted(y))
    np.testing.assert_array_equal(everything(data), x[np.argsort(y, kind="stable")])


def test_images_of_another_size_are_cut_to_the_middle_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    folder.mkdir()
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 32:64] = 200  # the middle third
    (folder / "a.png").write_bytes(png(image))
    data = load_eval_data(tmp_path, (28, 28, 3), 1)
    assert "96 x 64" in data.note
    assert "28 x 28" in data.note
    assert (data.images.read(0, 1)[0, 14, 8:20] == 200).all()


def test_a_gray_model_reads_color_files_as_gray(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.png").write_bytes(png(np.full((8, 6, 3), 77, np.uint8)))
    assert (load_eval_data(tmp_path, (8, 6, 1), 1).images.read(0, 1) == 77).all()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": pixels()}, "array 'y' is missing"),
        ({"x": pixels() - 9.0, "y": np.arange(5)}, "x is float64; expected uint8"),
        ({"x": pixels() + np.int32(99), "y": np.arange(5)}, "these are 99 to 354"),
        ({"x": pixels() > 9, "y": np.arange(5)}, "x is bool; expected uint8"),
        ({"x": pixels(size=(8, 8, 3)), "y": np.arange(5)}, r"shape \(5, 8, 8, 3\); expected"),
        ({"x": pixels(), "y": np.arange(4)}, "5 images, y 4 labels"),
        ({"x": pixels(), "y": np.linspace(0, 1, 5)}, "y is float64"),
        ({"x": pixels(), "y": np.array([0, 1, 5, 2, 3])}, "label 5 of image 2 is out of range"),
        ({"x": pixels(), "y": np.array([0, -1, 1, 2, 3])}, "label -1 of image 1 is out of range"),
        ({"x": pixels(0), "y": np.zeros(0, int)}, "holds no images"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_was_expected(
    arrays: dict[str, NDArray[Any]], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        load_eval_data(npz(tmp_path, **arrays), SIZE, 5)


def test_pickled_arrays_are_refused_and_never_run(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.array([object()], dtype=object), y=np.arange(1))
    with pytest.raises(UsageError, match="not a readable npz"):
        load_eval_data(path, SIZE, 5)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,weight\na.png,0\n", "its columns are name, weight"),
        ("file,label\na.png,cat\n", "it has 1 names (cat) and the model 5 classes"),
        ("file,label\nb.png,0\n", "names 'b.png', which is not in"),
        ("file,label\n", "holds no images"),
    ],
)
def test_a_label_table_that_does_not_fit_is_refused(table: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(pixels(1)[0]))
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(words)):
        load_eval_data(tmp_path, SIZE, 5)


def test_other_things_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_eval_data(tmp_path / "nothing.npz", SIZE, 5)
    (tmp_path / "x.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(UsageError, match=r"unknown kind '\.txt'"):
        load_eval_data(tmp_path / "x.txt", SIZE, 5)
    for name, words in (("x.npz", "not a readable npz"), ("x.tar", "not a readable tar")):
        (tmp_path / name).write_bytes(b"garbage" * 100)
        with pytest.raises(UsageError, match=words):
            load_eval_data(tmp_path / name, SIZE, 5)
    (tmp_path / "folder" / "cats").mkdir(parents=True)
    with pytest.raises(UsageError, match="it holds no images"):
        load_eval_data(tmp_path / "folder", SIZE, 5)
    (tmp_path / "bad" / "0").mkdir(parents=True)
    (tmp_path / "bad" / "0" / "a.png").write_bytes(b"not an image")
    with pytest.raises(UsageError, match="not a readable image"):
        load_eval_data(tmp_path / "bad", SIZE, 5)


def test_a_model_that_reads_no_images_is_given_its_own_shape(tmp_path: Path) -> None:
    data = npz(tmp_path, x=pixels(), y=np.arange(5))
    model, values = tiny(tmp_path), InputFormat(PRESETS["raw"], (9, 4))
    with pytest.raises(UsageError, match=r"^eval_data .*: x has shape .*\(N, 9, 4\)"):
        open_eval_data(data, model, values)
    found = open_eval_data(data, model, InputFormat(PRESETS["raw"], (3, 8, 6)))
    assert found is not None
    assert len(found) == 5
