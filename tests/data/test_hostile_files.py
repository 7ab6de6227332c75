"""Data files made to take memory or time without end, and names that no file can have."""

from __future__ import annotations

import os
import resource
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from dfqonnx.config.input_values import read_inputs
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.fit import fit_mask, fit_pixels, place_image
from dfqonnx.data.parquet_images import read_parquet
from dfqonnx.data.task_data import EvalRequest, open_task_data
from dfqonnx.data.verify_task_data import verify_task_data
from dfqonnx.errors import UsageError
from tests.fuzz.damage import image_bytes

PIXELS = InputFormat(PRESETS["raw"], (3, 8, 8))


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write_images(folder: Path) -> None:
    (folder / "images").mkdir()
    for name in "ab":
        content = image_bytes(np.random.default_rng(0), "PNG")
        (folder / "images" / f"{name}.png").write_bytes(content)


@pytest.mark.parametrize("entry", ["x", "y"])
def test_a_header_that_claims_gigabytes_is_not_unpacked(tmp_path: Path, entry: str) -> None:
    path, claimed = tmp_path / "d.npz", 40_000_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x", "y"):
            with archive.open(f"{name}.npy", "w") as file:
                if name == entry:
                    file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", claimed) + bytes(claimed))
                else:
                    np.lib.format.write_array(file, np.zeros((2, 8, 8, 3), np.uint8))
    tracemalloc.start()
    with pytest.raises(UsageError, match=f"{entry}: not a readable npy array"):
        verify_task_data(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_only_the_part_of_an_image_that_is_kept_is_computed() -> None:
    """Against all of it scaled by Pillow; its two passes round in between."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width, rows, columns = map(int, rng.integers(1, 70, 4))
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        found, inside = fit_pixels(image, (rows, columns, 3), "crop")
        place = place_image((height, width), (rows, columns), "crop")
        whole = np.asarray(image.resize(place.inner[::-1], Image.Resampling.BILINEAR), np.int64)
        left, top = (int(-shift) for shift in place.shift)
        expected = whole[top : top + rows, left : left + columns]
        assert inside.all()
        assert np.abs(found - expected).max() <= 2


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_strip_of_pixels_is_cut_before_it_is_scaled(size: tuple[int, int]) -> None:
    before = peak_kib()
    pixels, _ = fit_pixels(Image.new("RGB", size, (9, 8, 7)), (64, 64, 3), "crop")
    assert (pixels == (9, 8, 7)).all()
    assert (fit_mask(np.full(size, 5), (64, 64), "crop", -1) == 5).all()
    assert peak_kib() - before < 200_000  # all of it scaled: 3 GB


def test_rows_of_a_parquet_file_share_what_is_stored_once(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    stored = pytest.importorskip("pyarrow.parquet")
    path, places = tmp_path / "d.parquet", arrow.array(np.zeros(1000, np.int32))
    for images in (
        arrow.DictionaryArray.from_arrays(places, arrow.array([b"x" * 1_000_000])),
        arrow.StructArray.from_arrays([arrow.array([b"x" * 1000] * 1000)], ["bytes"]),
    ):
        names = arrow.DictionaryArray.from_arrays(places, arrow.array(["y" * 1_000_000]))
        table = arrow.table({"image": images, "label": names, "more": [[1]] * 1000})
        stored.write_table(table, path, dictionary_pagesize_limit=2**30)
        found = read_parquet(path, flag="--images")
        assert len(found.images) == len(found.labels or ()) == 1000
        assert len({id(content) for content in found.images}) == 1
        assert len({id(label) for label in found.labels or ()}) == 1


def test_bombs_in_parquet_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    stored = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "d.parquet"
    many = arrow.DictionaryArray.from_arrays(
        arrow.array(np.zeros(2_000_001, np.int8)), arrow.array([b"x"])
    )
    cases = {
        "2,000,001 rows": {"image": many},
        "which image files never do": {"image": arrow.array([bytes(2**26 + 1)])},
        "expected the bytes of image files": {"image": [[b"x"]]},
        "holds lists": {"image": [b"x"], "label": [[1]]},
    }
    for words, columns in cases.items():
        stored.write_table(arrow.table(columns), path, compression="zstd", use_dictionary=["image"])
        with pytest.raises(UsageError, match=words):
            read_parquet(path, flag="--images")


@pytest.mark.parametrize("labels", [[None], [1.5], [2**40], [True]])
def test_labels_of_parquet_that_are_no_classes_are_named(
    tmp_path: Path, labels: list[object]
) -> None:
    arrow = pytest.importorskip("pyarrow")
    stored = pytest.importorskip("pyarrow.parquet")
    stored.write_table(arrow.table({"image": [b"x"], "label": labels}), tmp_path / "d.parquet")
    with pytest.raises(UsageError, match=f"label {labels[0]} is neither"):
        read_parquet(tmp_path / "d.parquet", flag="--images")


@pytest.mark.parametrize(
    "text",
    [
        *('{"images": [5]}', '{"images": ["image"]}', '{"images": [["image"]]}', "[" * 10**5),
        *('{"lines": [{"image": 5}]}', '{"images": [null]}', '{"images": {"a": 1}}', "9" * 10**5),
        '{"images": [{"image": "images/a.png", "boxes": [[0, 0, 1, 1, 2147483647]]}]}',
        '{"images": [{"image": "images/a.png", "boxes": [[0, 0, 1, 1, 1e15]]}]}',
    ],
)
def test_json_that_holds_something_else_is_refused(tmp_path: Path, text: str) -> None:
    write_images(tmp_path)
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UsageError, match=r"labels\.json"):
        open_task_data(tmp_path / "labels.json", EvalRequest(inputs=PIXELS))


def test_a_class_of_a_billion_is_no_reason_to_count_so_far(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("2147483647 0.5 0.5 0.5 0.5\n")
    with pytest.raises(UsageError, match=r"a\.txt, line 1: class 2\.14748e\+09 is no whole number"):
        open_task_data(tmp_path, EvalRequest(inputs=PIXELS))


@pytest.mark.parametrize("name", ["labels.csv", "other.csv"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_table_that_never_ends_is_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    write_images(tmp_path)
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"is not a plain file|images without labels"):
        verify_task_data(tmp_path)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"file,label\n" + b"y" * 5000 + b",1\n", r"names 'yyy.*\(5,000 characters\)"),
        (b"file,label\rimages/a.png,1\r", "carriage returns alone"),
    ],
)
@pytest.mark.parametrize("name", ["labels.csv", "other.csv"])
def test_a_table_of_a_stranger_is_refused_in_words(
    tmp_path: Path, name: str, table: bytes, words: str
) -> None:
    write_images(tmp_path)
    (tmp_path / name).write_bytes(table)
    with pytest.raises(UsageError, match=words):
        verify_task_data(tmp_path)


@pytest.mark.parametrize("level", [np.nan, np.inf, 1e30])
def test_sound_that_is_not_finite_is_refused(tmp_path: Path, level: float) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, np.array([0, level, 0], np.float32))
    with pytest.raises(UsageError, match=r"a\.wav: its samples are not finite numbers"):
        verify_task_data(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [0.5, np.nan, 200_000, -1])
def test_a_mask_of_other_numbers_than_classes_is_refused(tmp_path: Path, value: float) -> None:
    write_images(tmp_path)
    (tmp_path / "masks").mkdir()
    kind = np.int32 if float(value).is_integer() else np.float32
    for name in "ab":
        Image.fromarray(np.full((8, 8), value, kind)).save(tmp_path / "masks" / f"{name}.tif")
    with pytest.raises(UsageError, match=r"masks/a\.tif: a mask holds whole numbers of classes"):
        verify_task_data(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(40),
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (10**9,)}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        b"\x93NUMPY\x01\x00\x40\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}".ljust(63)
        + b"\n"
        + b"\x80\x04N.",
        b"\x93NUMPY\x01\x00\x40\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999,)}".ljust(63)
        + b"\n",
    ],
)
def test_the_value_of_an_input_is_read_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.npy"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"s: .*state\.npy cannot be read"):
        read_inputs([f"s={path}"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_the_value_of_an_input_is_that_of_the_file(
    tmp_path: Path, order: str, shape: tuple[int, ...]
) -> None:
    value = np.array(np.random.default_rng(0).normal(size=shape), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "state.npy", value)
    found = read_inputs([f"s={tmp_path / 'state.npy'}"])["s"]
    np.testing.assert_array_equal(found, value)


def test_a_pipe_is_no_value_of_an_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.npy")
    with pytest.raises(UsageError, match="is no plain file"):
        read_inputs([f"s={tmp_path / 'state.npy'}"])
