"""Data as people have them: names for classes, keys of other tools, floats, one-hot, parquet."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.data.class_labels import (
    KnownClasses,
    read_class_array,
    read_class_file,
    read_recorded_classes,
)
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.task_data import EvalRequest, open_task_data
from dfqonnx.data.unlabeled import open_images, verify_images
from dfqonnx.data.verify_task_data import verify_task_data
from dfqonnx.errors import EnvironmentProblem, UsageError

SIZE = (8, 6, 3)
IMAGES = InputFormat(PRESETS["imagenet"], (3, 8, 6))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, *SIZE), dtype=np.uint8)
ANIMALS = ("dog", "Sea-Horse", "cat", "bee")  # in the model's order, which is not sorted


def opened(path: Path, *names: str, classes: int | None = 4) -> EvalData:
    """Open data as a run does: everything is read once before the model is known."""
    verify_task_data(path)
    known = KnownClasses(classes, names, "the test")
    return open_task_data(path, EvalRequest(inputs=IMAGES, classes=classes, known=known))


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def folders(root: Path, *names: str) -> Path:
    """A folder for each name, with one image each."""
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / f"{place}.png").write_bytes(png(PIXELS[place % 4]))
    return root


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    root.mkdir(exist_ok=True)
    for place in range(4):
        (root / f"{place}.png").write_bytes(png(PIXELS[place]))
    (root / name).write_text(text, encoding="utf-8")
    return root


# --- names of classes


def test_folders_named_by_class_are_sorted_where_there_are_as_many_as_classes(
    tmp_path: Path,
) -> None:
    data = opened(folders(tmp_path / "set", "dog", "bee", "cat", "ant"))
    assert data.class_names == ("ant", "bee", "cat", "dog"), "as torchvision's ImageFolder"
    np.testing.assert_array_equal(data.labels, [0, 1, 2, 3])
    np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS[[3, 1, 2, 0]])


def test_known_names_decide_the_order_and_some_may_be_missing(tmp_path: Path) -> None:
    data = opened(folders(tmp_path / "set", "sea horse", "bee"), *ANIMALS)
    assert data.class_names == ANIMALS
    np.testing.assert_array_equal(data.labels, [3, 1])


def test_fewer_folders_than_classes_and_no_names_are_refused_with_the_option(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match=r"2 names \(bee, cat\) and the model 4 .*classes FILE"):
        opened(folders(tmp_path / "set", "bee", "cat"))
    with pytest.raises(UsageError, match="'bea' is no class of the test; did you mean 'bee'"):
        opened(folders(tmp_path / "other", "bea", "cat"), *ANIMALS)


def test_numbered_folders_stay_numbers_whatever_the_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", "2", "10")
    np.testing.assert_array_equal(opened(root, classes=11).labels, [2, 10])
    np.testing.assert_array_equal(
        opened(root, *map(str, range(20, 31)), classes=11).labels, [2, 10]
    )
    with pytest.raises(UsageError, match="label 10 of image 1 is out of range"):
        opened(root)


def test_a_folder_of_folders_is_looked_through(tmp_path: Path) -> None:
    folders(tmp_path / "set" / "unpacked", "a", "b", "c", "d")
    np.testing.assert_array_equal(opened(tmp_path / "set").labels, [0, 1, 2, 3])
    folders(tmp_path / "parts" / "train", "a", "b")
    folders(tmp_path / "parts" / "val", "a", "b")
    with pytest.raises(UsageError, match=r"parts of a data set \(train, val\).*parts/val"):
        opened(tmp_path / "parts")


def test_images_without_labels_point_to_the_options_that_need_none(tmp_path: Path) -> None:
    root = table(tmp_path / "set", "")
    (root / "labels.csv").unlink()
    with pytest.raises(UsageError, match=r"4 images without labels: give them as images"):
        opened(root)


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n0.png,cat\n1.png,bee\n2.png,cat\n3.png,dog\n",
        "Filename,Class\n0.png,cat\n1.png,bee\n2.png,cat\n3.png,dog\n",
        "path,split,category\n0.png,t,Cat\n1.png,t,BEE\n2.png,t,cat\n3.png,t,dog\n",
    ],
)
@pytest.mark.parametrize("name", ["labels.csv", "val.csv"])
def test_a_table_may_hold_names_and_other_headings(tmp_path: Path, text: str, name: str) -> None:
    root = table(tmp_path / "set", text, name)
    for path in (root, root / name):
        data = opened(path, *ANIMALS)
        np.testing.assert_array_equal(data.labels, [2, 3, 2, 0])
        np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "dog\nSea-Horse\n\ncat\nbee\n"),
        ("classes.json", json.dumps(ANIMALS)),
        ("classes.json", json.dumps({str(i): name for i, name in enumerate(ANIMALS)})),
        ("classes.json", json.dumps({name: i for i, name in enumerate(ANIMALS)})),
    ],
)
def test_a_file_of_classes_is_read_in_every_usual_form(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_class_file(path, 4).names == ANIMALS
    with pytest.raises(UsageError, match="names 4 classes, and the model has 3"):
        read_class_file(path, 3)


def test_codes_of_imagenet_name_their_classes(tmp_path: Path) -> None:
    index = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
    listed = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    (tmp_path / "a.json").write_text(json.dumps(index), encoding="utf-8")
    (tmp_path / "b.txt").write_text(listed, encoding="utf-8")
    for name in ("a.json", "b.txt"):
        known = read_class_file(tmp_path / name, 2)
        assert [known.find(n) for n in ("n01443537", "goldfish", "tench", "ox")] == [1, 1, 0, None]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'dog', 1: 'Sea-Horse', 2: 'cat', 3: 'bee'}"),  # as Ultralytics writes it
        ("class_names", json.dumps(ANIMALS)),
        ("classes", "dog,Sea-Horse,cat,bee"),
    ],
)
def test_names_in_the_models_metadata_are_read(key: str, text: str) -> None:
    assert read_recorded_classes({key: text}, 4).names == ANIMALS
    assert read_recorded_classes({key: text}, 5).names == (), "they are of something else"
    assert read_recorded_classes({key: "((" * 100_000}, 4).names == ()


# --- arrays


@pytest.mark.parametrize(
    ("x", "y"),
    [("x", "y"), ("images", "labels"), ("data", "target"), ("x_test", "y_test"), ("arr_0", "arr_1"),
     ("X", "Y"), ("image", "label")],
)  # fmt: skip
def test_arrays_are_found_under_their_usual_names(tmp_path: Path, x: str, y: str) -> None:
    np.savez(tmp_path / "set.npz", **{x: PIXELS, y: np.arange(4)})
    data = opened(tmp_path / "set.npz")
    np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS)
    np.testing.assert_array_equal(data.labels, np.arange(4))
    verify_images(tmp_path / "set.npz")
    assert open_images(tmp_path / "set.npz", SIZE)[1] == 4


CHANNELS_FIRST = PIXELS.transpose(0, 3, 1, 2)
MEAN, STD = (np.array(v, np.float32) for v in (IMAGES.preprocessing.mean, IMAGES.preprocessing.std))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (PIXELS.astype(np.int64), "int64 from"),
        (PIXELS / np.float32(255), "divided by 255"),
        (PIXELS.astype(np.float64), "float64 from"),
        (CHANNELS_FIRST, "channels first"),
        (CHANNELS_FIRST / np.float32(255), "divided by 255"),
    ],
    ids=["whole", "to 1", "to 255", "channels first", "channels first to 1"],
)
def test_numbers_are_taken_for_pixels_by_a_convention_that_is_said(
    tmp_path: Path, x: NDArray[Any], words: str
) -> None:
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(4))
    data = opened(tmp_path / "set.npz")
    np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS)
    assert words in data.note


def test_what_was_preprocessed_already_goes_in_as_it_is(tmp_path: Path) -> None:
    x = IMAGES.to_tensor(PIXELS)
    np.savez(tmp_path / "set.npz", x=x, y=np.arange(4))
    data = opened(tmp_path / "set.npz")
    np.testing.assert_array_equal(data.read_tensor(0, 4, IMAGES), x)
    assert "goes in as it is" in data.note


@pytest.mark.parametrize(
    "y",
    [np.eye(4), np.eye(4, dtype=np.uint8), np.eye(4, dtype=bool), np.arange(4)[:, None],
     np.arange(4.0), np.arange(4, dtype=np.uint8)],
    ids=["one-hot", "one-hot bytes", "one-hot flags", "column", "floats", "bytes"],
)  # fmt: skip
def test_labels_of_every_usual_form_are_classes(tmp_path: Path, y: NDArray[Any]) -> None:
    np.savez(tmp_path / "set.npz", x=PIXELS, y=y)
    np.testing.assert_array_equal(opened(tmp_path / "set.npz").class_labels, [0, 1, 2, 3])


@pytest.mark.parametrize(
    "y",
    [np.eye(4) * 0.9, np.eye(4)[:, :3], np.ones((4, 4)), np.zeros((4, 4)), np.arange(4) + 0.5],
    ids=["soft", "another count", "several", "none", "fractions"],
)
def test_what_is_no_class_is_not_taken_for_one(y: NDArray[Any]) -> None:
    assert read_class_array(y, KnownClasses(4)) is None


def test_labels_in_an_array_may_be_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=PIXELS, y=np.array(["cat", "bee", "dog", "cat"]))
    np.testing.assert_array_equal(opened(tmp_path / "set.npz", *ANIMALS).labels, [2, 3, 0, 2])


@pytest.mark.parametrize(("x", "y"), [("images", "labels"), ("x", "y"), ("x_test", "y_test")])
def test_an_npy_has_its_labels_beside_it(tmp_path: Path, x: str, y: str) -> None:
    np.save(tmp_path / f"{x}.npy", PIXELS)
    assert opened(tmp_path / f"{x}.npy").labels is None
    np.save(tmp_path / f"{y}.npy", np.arange(4))
    data = opened(tmp_path / f"{x}.npy")
    np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS)
    np.testing.assert_array_equal(data.labels, np.arange(4))
    assert open_images(tmp_path / f"{x}.npy", SIZE)[1] == 4


# --- parquet


def parquet(path: Path, *, names: tuple[str, ...] = (), **columns: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    stored = pytest.importorskip("pyarrow.parquet")
    rows = arrow.table(columns)
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        rows = rows.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.parent.mkdir(exist_ok=True)
    stored.write_table(rows, path)
    return path


STORED = [{"bytes": png(image), "path": None} for image in PIXELS]


def test_parquet_is_read_as_it_is_stored_for_hugging_face(tmp_path: Path) -> None:
    own = ("bee", "cat", "dog", "sea_horse")
    path = parquet(tmp_path / "data" / "test-00000.parquet", names=own, image=STORED,
                   label=[0, 1, 2, 3])  # fmt: skip
    for given in (path, tmp_path / "data"):
        data = opened(given)
        np.testing.assert_array_equal(data.read_pixels(0, 4), PIXELS)
        np.testing.assert_array_equal(data.labels, [0, 1, 2, 3])
        assert data.class_names == own
        by_name = opened(given, *ANIMALS)
        np.testing.assert_array_equal(by_name.labels, [3, 2, 0, 1])
        assert by_name.class_names == ANIMALS
    assert open_images(path, SIZE)[1] == 4


def test_parquet_without_labels_without_images_or_damaged_is_refused_by_name(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match=r"no column of labels.* images"):
        opened(parquet(tmp_path / "a.parquet", image=[png(image) for image in PIXELS]))
    with pytest.raises(UsageError, match="its columns are text; expected image"):
        opened(parquet(tmp_path / "b.parquet", text=["a"]))
    with pytest.raises(UsageError, match="expected the bytes of image files"):
        opened(parquet(tmp_path / "c.parquet", image=[{"path": "x", "bytes": None}], label=[1]))
    with pytest.raises(UsageError, match="image 'row 0': not a readable image"):
        opened(parquet(tmp_path / "d.parquet", image=[b"GIF"], label=[1]))
    (tmp_path / "e.parquet").write_bytes(b"PAR1 garbage")
    with pytest.raises(UsageError, match="not a readable parquet file"):
        opened(tmp_path / "e.parquet")
    for part in ("train", "test"):
        parquet(tmp_path / "parts" / f"{part}-0.parquet", image=STORED, label=[0, 1, 2, 3])
    with pytest.raises(UsageError, match=r"parts of a data set \(test, train\)"):
        opened(tmp_path / "parts")


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", image=STORED, label=[0, 1, 2, 3])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'dfqonnx\[parquet\]'"):
        verify_task_data(path)
