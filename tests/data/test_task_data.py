"""Evaluation data of every layout: read exactly, and refused with file and entry where damaged."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from dfqonnx.config.measuring import Fit, parse_pixel_range, read_measuring
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.label_types import NO_CLASS, ArrayMasks, BoxLabels, TextLabels, ValueLabels
from dfqonnx.data.task_data import EvalRequest, open_task_data
from dfqonnx.errors import UsageError

FRAME = (32, 64)
IMAGES = InputFormat(PRESETS["minus-one-one"], (3, *FRAME))
RNG = np.random.default_rng(0)


def request(
    inputs: InputFormat = IMAGES, *, fit: Fit | None = "stretch", classes: int | None = None
) -> EvalRequest:
    return EvalRequest(inputs=inputs, fit=fit, classes=classes)


def picture(path: Path, size: tuple[int, int] = (40, 20), value: int | None = None) -> None:
    """Write a picture of (width, height) `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    pixels = RNG.integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def coco() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "b.png", "width": 80, "height": 40},
                   {"id": 9, "file_name": "a.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [8, 4, 16, 8], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 80, 40], "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}],
    }  # fmt: skip


def boxes_of(data: EvalData) -> BoxLabels:
    assert isinstance(data.labels, BoxLabels)
    return data.labels


@pytest.mark.parametrize("given", ["folder", "json", "tar"])
def test_coco_boxes_stand_where_the_stretched_image_has_them(given: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images" / "a.png")
    picture(root / "images" / "b.png")  # stored at half the size that the json says
    file = write(root / "annotations" / "instances.json", coco())
    path = {"folder": root, "json": file, "tar": tmp_path / "set.tar"}[given]
    if given == "json":  # beside its images
        path = write(root / "instances.json", coco())
    if given == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(root, ".")
    data = open_task_data(path, request())
    first, second = boxes_of(data).images
    # json 80 x 40 -> stored 40 x 20 -> input 64 x 32: factor 0.8
    np.testing.assert_allclose(first.boxes, [[6.4, 3.2, 19.2, 9.6], [0, 0, 64, 32]])
    np.testing.assert_array_equal(first.classes, [1, 0])
    np.testing.assert_array_equal(first.crowd, [False, True])
    assert second.boxes.shape == (0, 4)
    assert boxes_of(data).category_ids == (3, 90)
    assert data.class_names == ("car", "brush")
    assert len(data) == 2
    assert data.read_tensor(0, 2, IMAGES).shape == (2, 3, *FRAME)
    assert "40 x 20" in data.note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\] has no 'bbox'"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "bbox: expected 4 numbers"),
        (lambda c: c["annotations"][0].update(image_id=8), r"annotations\[0\]: image_id 8"),
        (lambda c: c["annotations"][0].update(category_id=1), "category_id 1 is of no category"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 1e999, 1]), "expected 4 numbers"),
        (lambda c: c["images"][0].update(file_name="z.png"), r"images\[0\]: image 'z.png' is not"),
        (lambda c: c["images"][0].update(width=20), "other proportions"),
        (lambda c: c["images"][0].pop("id"), r"images\[0\] has no 'id'"),
        (lambda c: c.update(images=3), "images is no list"),
        (lambda c: c["categories"].append({"id": 3, "name": "x"}), "id 3 is there twice"),
        (lambda c: c["images"].append(5), r"images\[2\] has no 'id'"),
    ],
)  # fmt: skip
def test_damaged_coco_files_are_refused_with_the_entry(
    change: Any, words: str, tmp_path: Path
) -> None:
    content = coco()
    change(content)
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    text = json.dumps(content)  # Python writes Infinity, which its reader takes
    path = write(tmp_path / "instances.json", text)
    with pytest.raises(UsageError, match=r"instances\.json") as caught:
        open_task_data(path, request())
    assert_words(words, str(caught.value))


def assert_words(words: str, message: str) -> None:
    import re

    assert re.search(words, message), message


def test_yolo_rows_are_shares_of_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "images" / "a.jpg")
    picture(tmp_path / "val" / "images" / "b.jpg")
    write(
        tmp_path / "val" / "labels" / "a.txt", "2 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n"
    )
    write(tmp_path / "data.yaml", "names: {0: cat, 1: dog, 2: fish}\n")
    data = open_task_data(tmp_path, request())
    first, second = boxes_of(data).images
    np.testing.assert_allclose(
        first.boxes, np.array([[0.375, 0.25, 0.625, 0.75], [0.1, 0.2, 0.3, 0.6]]) * [64, 32, 64, 32]
    )
    np.testing.assert_array_equal(first.classes, [2, 0])
    assert len(second.boxes) == 0
    assert data.class_names == ("cat", "dog", "fish")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0 0.5 0.5 x 1", "line 2: .*no row of numbers"),
        ("0 0.5 0.5 1", "line 2: 4 numbers"),
        ("1.5 0.5 0.5 1 1", "line 2: class 1.5"),
        ("-1 0.5 0.5 1 1", "line 2: class -1"),
        ("0 nan 0.5 1 1", "line 2"),
    ],
)
def test_damaged_yolo_rows_are_refused_with_the_line(row: str, words: str, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", f"0 0.5 0.5 1 1\n{row}\n")
    with pytest.raises(UsageError, match=r"labels/a\.txt, " + words):
        open_task_data(tmp_path, request())


def mask(path: Path, values: NDArray[np.integer[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_masks_follow_their_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", (64, 32))
    picture(tmp_path / "images" / "b.jpg", (64, 32))
    picture(tmp_path / "images" / "without.jpg", (64, 32))
    values = RNG.integers(0, 4, (2, *FRAME))
    values[1, 0, :5] = 255
    for name, each in zip("ab", values, strict=True):
        mask(tmp_path / "masks" / f"{name}.png", each)
    data = open_task_data(tmp_path, request())
    assert len(data) == 2
    assert data.labels is not None
    assert not isinstance(data.labels, np.ndarray | BoxLabels | TextLabels | ValueLabels)
    expected = np.where(values == 255, NO_CLASS, values)
    np.testing.assert_array_equal(data.labels.read_masks(0, 2), expected)


def test_masks_of_black_and_white_have_two_classes(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", (64, 32))
    values = 255 * RNG.integers(0, 2, FRAME)
    mask(tmp_path / "masks" / "a.png", values)
    labels = open_task_data(tmp_path, request()).labels
    assert not isinstance(labels, np.ndarray | BoxLabels | TextLabels | ValueLabels | None)
    np.testing.assert_array_equal(labels.read_masks(0, 1)[0], values // 255)


def test_a_colored_mask_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    picture(tmp_path / "masks" / "a.png")
    with pytest.raises(UsageError, match=r"masks/a\.png: a mask of 3 channels"):
        open_task_data(tmp_path, request())


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_text_lines_are_padded_with_zeros_of_the_tensor(kind: str, tmp_path: Path) -> None:
    picture(tmp_path / "lines" / "a.png", (40, 32), value=255)
    if kind == "csv":
        write(tmp_path / "labels.csv", 'file,text\nlines/a.png," a, ""b"" "\n')
    else:
        write(tmp_path / "labels.json", {"lines": [{"image": "lines/a.png", "text": ' a, "b" '}]})
    data = open_task_data(tmp_path, request(fit=None))
    assert data.labels == TextLabels((' a, "b" ',))
    x = data.read_tensor(0, 1, IMAGES)
    assert (x[..., :40] == 1).all()
    assert (x[..., 40:] == 0).all()


def test_a_plain_labels_json_holds_boxes_and_masks(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (64, 32))
    mask(tmp_path / "m.png", np.ones(FRAME, np.int64))
    entry = {"image": "a.png", "boxes": [[1, 2, 3, 4, 1]], "mask": "m.png"}
    write(tmp_path / "labels.json", {"classes": ["x", "y"], "images": [entry]})
    masked = open_task_data(tmp_path, request())
    assert not isinstance(masked.labels, BoxLabels)
    detector = EvalRequest(inputs=IMAGES, detector_fit=lambda: "stretch")
    found = boxes_of(open_task_data(tmp_path, detector))
    np.testing.assert_allclose(found.images[0].boxes, [[1, 2, 3, 4]])
    assert found.category_ids == (0, 1)
    entry["boxes"] = [[1, 2, 3, 4, -1]]  # type: ignore[index]
    write(tmp_path / "labels.json", {"images": [entry]})
    with pytest.raises(UsageError, match=r"images\[0\]: boxes\[0\]: class"):
        open_task_data(tmp_path, detector)


SPECTRA = InputFormat(PRESETS["raw"], (9, 4))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.int32, np.bool_])
def test_tensors_go_in_as_they_are(dtype: Any, tmp_path: Path) -> None:
    x = (RNG.normal(size=(5, 9, 4)) * 9).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data = open_task_data(tmp_path / "x.npy", request(SPECTRA))
    np.testing.assert_array_equal(data.read_tensor(0, 5, SPECTRA), x.astype(np.float32))
    assert data.labels is None
    assert data.read_pixels(0, 1) is None
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(5) / 2)
    labels = open_task_data(tmp_path / "x.npz", request(SPECTRA)).labels
    assert isinstance(labels, ValueLabels)
    np.testing.assert_array_equal(labels.values[:, 0], np.arange(5) / 2)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(5))
    np.testing.assert_array_equal(
        open_task_data(tmp_path / "x.npz", request(SPECTRA, classes=5)).class_labels, np.arange(5)
    )


def test_numbers_of_an_images_shape_go_in_as_they_are(tmp_path: Path) -> None:
    cepstra = InputFormat(PRESETS["raw"], (1, 49, 10))  # looks like an image, and is none
    x = RNG.normal(size=(4, 1, 49, 10))
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(4))
    data = open_task_data(tmp_path / "x.npz", request(cepstra, classes=4))
    np.testing.assert_array_equal(data.read_tensor(0, 4, cepstra), x.astype(np.float32))
    np.testing.assert_array_equal(data.class_labels, np.arange(4))
    assert "as it is" in data.note
    np.savez(tmp_path / "x.npz", x=x.transpose(0, 2, 3, 1), y=np.arange(4))
    with pytest.raises(UsageError, match="x is float64; expected uint8"):
        open_task_data(tmp_path / "x.npz", request(cepstra, classes=4))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((5, 9, 3))}, r"shape \(5, 9, 3\); expected .*\(N, 9, 4\)"),
        ({"x": np.array(["a"] * 5)}, "x is <U1"),
        ({"x": np.full((5, 9, 4), np.nan)}, "input 0 of x is not finite"),
        ({"x": np.zeros((5, 9, 4)), "y": np.zeros(4)}, "x holds 5 inputs, y 4 labels"),
        ({"x": np.zeros((2, 9, 4)), "y": np.array([0, 7])}, "label 7 of input 1 is out of range"),
        ({"x": np.zeros((2, 9, 4)), "y": np.array([0, np.inf])}, "not finite"),
        ({"z": np.zeros(3)}, "array 'x' is missing"),
        ({"x": np.zeros((0, 9, 4))}, "holds no inputs"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(
    arrays: dict[str, Any], words: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UsageError, match=words):
        open_task_data(tmp_path / "x.npz", request(SPECTRA, classes=3))


def test_images_of_an_npz_may_have_masks_pictures_or_no_labels(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (3, *FRAME, 3)).astype(np.uint8)
    path, masks = tmp_path / "x.npz", RNG.integers(0, 4, (3, *FRAME))
    for y, kind in ((masks, ArrayMasks), (RNG.normal(size=(3, 1, *FRAME)), ValueLabels)):
        np.savez(path, x=x, y=y)
        data = open_task_data(path, request())
        assert isinstance(data.labels, kind)
        np.testing.assert_array_equal(data.read_pixels(0, 3), x)
    np.savez(path, x=x)
    assert open_task_data(path, request()).labels is None
    np.savez(path, x=x, y=np.arange(3))
    np.testing.assert_array_equal(open_task_data(path, request()).class_labels, np.arange(3))
    with pytest.raises(UsageError, match="label 2 of image 2 is out of range"):
        open_task_data(path, request(classes=2))
    np.savez(path, x=x, y=np.arange(2))
    with pytest.raises(UsageError, match="x holds 3 inputs, y 2 labels"):
        open_task_data(path, request())


WAVES = InputFormat(PRESETS["raw"], (1, 100))


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.int16, 2**15), (np.int32, 2**31), (np.float32, 1), (np.uint8, 2**7)]
)
def test_sound_is_cut_into_windows(dtype: Any, scale: int, tmp_path: Path) -> None:
    wave = np.sin(np.arange(250) / 7) / 2
    shift = 128 if dtype is np.uint8 else 0
    stored = wave * scale + shift
    wavfile.write(tmp_path / "a.wav", 16000, stored.astype(dtype))
    data = open_task_data(tmp_path / "a.wav", request(WAVES))
    x = data.read_tensor(0, 2, WAVES)
    assert x.shape == (2, 1, 100)
    np.testing.assert_allclose(x.ravel(), wave[:200], atol=1 / 128)  # uint8 has 256 steps over 2
    assert "16000 Hz" in data.note


def test_files_of_sound_may_have_classes_but_one_rate(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 8000)):
        samples = (np.stack([np.ones(40), np.zeros(40)], 1) * 2**14).astype(np.int16)
        wavfile.write(tmp_path / f"{name}.wav", rate, samples)
    write(tmp_path / "labels.csv", "file,label\nb.wav,1\na.wav,0\n")
    data = open_task_data(tmp_path, request(WAVES))
    np.testing.assert_array_equal(data.class_labels, [1, 0])
    x = data.read_tensor(0, 2, WAVES)
    np.testing.assert_allclose(x[..., :40], 0.25)  # the mean of both channels
    assert (x[..., 40:] == 0).all()
    wavfile.write(tmp_path / "a.wav", 16000, np.ones(40, np.int16))
    with pytest.raises(UsageError, match=r"16000 samples a second, and b\.wav has 8000"):
        open_task_data(tmp_path, request(WAVES))
    (tmp_path / "a.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    with pytest.raises(UsageError, match=r"a\.wav: not a readable wav file"):
        open_task_data(tmp_path, request(WAVES))
    with pytest.raises(UsageError, match="this one reads 9x4"):
        open_task_data(tmp_path, request(SPECTRA))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_task_data(tmp_path / "nothing.json", request())
    with pytest.raises(UsageError, match="not a readable JSON"):
        open_task_data(write(tmp_path / "a.json", "{"), request())
    with pytest.raises(UsageError, match="neither COCO"):
        open_task_data(write(tmp_path / "a.json", "[1]"), request())
    with pytest.raises(UsageError, match="expected file and text"):
        open_task_data(write(tmp_path / "a.csv", "name,text\n"), request())
    with pytest.raises(UsageError, match="line 2: a value is missing"):
        open_task_data(write(tmp_path / "a.csv", "file,text\na.png\n"), request())
    buffer = io.BytesIO()
    noise = RNG.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a.png").write_bytes(buffer.getvalue()[:2000])
    write(tmp_path / "cut" / "labels.csv", "file,text\na.png,x\n")
    data = open_task_data(tmp_path / "cut", request())
    with pytest.raises(UsageError, match=r"cut/a\.png: not a readable image"):
        data.read_tensor(0, 1, IMAGES)


def test_classified_images_may_be_fitted_in_another_way(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (40, 20), value=200)
    write(tmp_path / "labels.csv", "file,label\na.png,3\n")
    data = open_task_data(tmp_path, request(fit="letterbox", classes=4))
    np.testing.assert_array_equal(data.class_labels, [3])
    pixels = data.read_pixels(0, 1)
    assert pixels is not None
    assert (pixels == 200).all()  # the same proportions: nothing is gray
    assert open_task_data(tmp_path, request(fit=None)).note.startswith("images of another size")


@pytest.mark.parametrize("text", ["0", "1:0", "a:b", "0:inf", "0:1:2", ""])
def test_a_pixel_range_is_low_and_high(text: str) -> None:
    assert parse_pixel_range("-1:1") == (-1.0, 1.0)
    with pytest.raises(UsageError, match="pixel_range"):
        parse_pixel_range(text)


def test_a_fit_is_one_of_four() -> None:
    assert read_measuring(None, None, "pad", "0:255").pixel_range_text == "0:255"
    with pytest.raises(UsageError, match="did you mean 'stretch'"):
        read_measuring(None, None, "strech", None)
