"""Images as files in a folder or a tar, decoded when they are read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.data.foreign_files import open_image, parsing, read_plain_file
from dfqonnx.data.tar_file import read_tar
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
LABELS = "labels.csv"
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_path", "path", "img", "name", "id")
LABEL_COLUMNS = (
    "label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id", "y",
)  # fmt: skip
PARTS = {"train", "training", "val", "valid", "validation", "test"}  # no names of classes
MAX_HEADING = 2**16
_KINDS = f"; it may hold {', '.join(SUFFIXES)}"
MAX_LABEL = 2**31 - 1
_MARGIN = 224 / 256  # the middle that is kept of an image scaled by its shorter side


class ImageSource(Protocol):
    """Reads images by position."""

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 (n, H, W, C)."""

    def note(self) -> str:
        """Return what was done to the images to fit the model; empty when nothing."""

    def check(self) -> None:
        """Decode every image once; a UsageError names the first that cannot be."""


@dataclass(frozen=True)
class FolderImages:
    """Image files below a folder."""

    folder: Path
    names: tuple[str, ...]
    size: tuple[int, int, int]
    flag: str = "--eval-data"  # the option that names the folder

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop`."""
        return np.stack([self._one(name) for name in self.names[start:stop]])

    def note(self) -> str:
        """Return whether the first image has another size."""
        first = self.names[0]
        return _note(self._where(first), self._bytes(first), self.size)

    def check(self) -> None:
        """Decode every image once; a UsageError names the first that cannot be."""
        for name in self.names:
            open_image(self._bytes(name), name=self._where(name), mode="RGB")

    def _one(self, name: str) -> NDArray[np.uint8]:
        return decode(self._bytes(name), self.size, name=self._where(name))

    def _bytes(self, name: str) -> bytes:
        return read_plain_file(self.folder / name, self._where(name), what="an image")

    def _where(self, name: str) -> str:
        return f"{self.flag} {self.folder}: image {name!r}"


@dataclass(frozen=True, kw_only=True)
class TarImages:
    """Image files in a tar or in parquet; it is read once, compressed bytes stay in memory."""

    path: Path
    names: tuple[str, ...]
    contents: tuple[bytes, ...]
    size: tuple[int, int, int]
    flag: str = "--eval-data"

    @classmethod
    def open(cls, path: Path, size: tuple[int, int, int]) -> tuple[Self, tuple[str, ...]]:
        """Read the tar at `path`; return the labels beside, as they are written.

        Raises:
            UsageError: unreadable, or without labels.
        """
        files = read_tar(path, flag="--eval-data")
        table = next((n for n in sorted(files, key=len) if Path(n).name == LABELS), None)
        if table is None:
            rows = list_class_folders(sorted(files), where=f"--eval-data {path}")
            contents = tuple(files[name] for name, _ in rows)
            names = tuple(name for name, _ in rows)
            return cls(path=path, names=names, contents=contents, size=size), _labels_of(rows)
        root = str(Path(table).parent)
        rows = parse_labels(files[table], f"{path}: {LABELS}")
        names = tuple(n if root == "." else f"{root}/{n}" for n, _ in rows)
        missing = next((n for n in names if n not in files), None)
        if missing is not None:
            raise UsageError(
                f"--eval-data {path}: {LABELS} names {printable(missing)!r}, which is not in it"
            )
        contents = tuple(files[name] for name in names)
        return cls(path=path, names=names, contents=contents, size=size), _labels_of(rows)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop`."""
        pairs = zip(self.names[start:stop], self.contents[start:stop], strict=True)
        return np.stack([decode(c, self.size, name=self._where(n)) for n, c in pairs])

    def note(self) -> str:
        """Return whether the first image has another size."""
        return _note(self._where(self.names[0]), self.contents[0], self.size)

    def check(self) -> None:
        """Decode every image once; a UsageError names the first that cannot be."""
        for name, content in zip(self.names, self.contents, strict=True):
            open_image(content, name=self._where(name), mode="RGB")

    def _where(self, name: str) -> str:
        return f"{self.flag} {self.path}: image {name!r}"


def read_labels(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return file names and labels of a folder: labels.csv, else a sub-folder for each class.

    Raises:
        UsageError: neither is there, or a row or name cannot be read.
    """
    table = find_table(folder)
    if table is not None:
        rows = parse_labels(_read_table(table), str(table))
        outside = next((name for name, _ in rows if not _is_inside(name)), None)
        if outside is not None:
            raise UsageError(f"--eval-data {table}: {printable(outside)!r} lies outside {folder}")
        missing = next((name for name, _ in rows if not _is_file(folder / name)), None)
        if missing is not None:
            raise UsageError(
                f"--eval-data {table}: names {printable(missing)!r}, which is not in {folder}"
            )
    else:
        rows = _class_folders(folder)
    return tuple(n for n, _ in rows), _labels_of(rows)


def find_table(folder: Path) -> Path | None:
    """Return the table of labels in a folder: labels.csv, or the only csv with such columns."""
    if (folder / LABELS).is_file():
        return folder / LABELS
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        return None
    first = _read_table(tables[0])[:MAX_HEADING].decode("utf-8-sig", errors="replace")
    line = first.replace("\r", "\n").partition("\n")[0]
    with parsing(f"--eval-data {tables[0]}", "table of labels"):
        heading = next(iter(csv.reader(io.StringIO(line))), [])
    return None if _find_columns(heading) is None else tables[0]


def parse_labels(data: bytes, where: str) -> list[tuple[str, str]]:
    """Return (file, label) rows of a table, the labels as they are written.

    Raises:
        UsageError: a column is missing, or a label is no number that a class can have.
    """
    with parsing(f"--eval-data {where}", "table of the columns file, label"):
        return _parse_rows(data.decode("utf-8-sig", errors="replace"), where)


def _labels_of(rows: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(label for _, label in rows)


def _find_columns(heading: Sequence[str]) -> tuple[str, str] | None:
    """Return the names of the columns of files and labels; None where one is missing."""
    known = {column.strip().lower(): column for column in reversed(heading)}
    file = next((known[name] for name in FILE_COLUMNS if name in known), None)
    label = next((known[name] for name in LABEL_COLUMNS if name in known), None)
    return None if file is None or label is None else (file, label)


def check_line_ends(text: str, where: str) -> None:
    """Refuse a table with the line ends of old Macs, which the csv module takes for one line.

    Raises:
        UsageError: it has no others.
    """
    if "\r" in text and "\n" not in text:
        raise UsageError(
            f"{where}: its lines end in carriage returns alone; save it with the line ends of Unix"
            " (LF) or Windows (CRLF)"
        )


def _parse_rows(text: str, where: str) -> list[tuple[str, str]]:
    check_line_ends(text, f"--eval-data {where}")
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or ()
    chosen = _find_columns(columns)
    if chosen is None:
        raise UsageError(
            f"--eval-data {where}: its columns are {printable(', '.join(columns)) or 'none'};"
            " expected file and label"
        )
    rows = []
    for row in reader:
        label = str(row[chosen[1]] or "").strip()
        if not label:
            raise UsageError(f"--eval-data {where}, line {reader.line_num}: its label is empty")
        is_number = re.fullmatch(r"[-+]?\d+(\.0*)?", label) is not None
        if is_number:
            whole = label.partition(".")[0]
            value = int(whole) if len(whole) < 20 else MAX_LABEL + 1
            if abs(value) > MAX_LABEL or value < 0:
                raise UsageError(
                    f"--eval-data {where}, line {reader.line_num}: label {label!r} is out of range"
                    " for a class"
                )
            label = str(value)
        rows.append((str(row[chosen[0]]), label))
    return rows


def _read_table(path: Path) -> bytes:
    return read_plain_file(path, f"--eval-data {path}", what="a table of labels")


def _is_file(path: Path) -> bool:
    """Return whether a plain file is there; a name that is too long for one is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_inside(name: str) -> bool:
    """Return whether a relative name stays below its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not (path.is_absolute() or ".." in path.parts or "\0" in name)


def _class_folders(folder: Path) -> list[tuple[str, str]]:
    names = [
        f"{sub.name}/{file.relative_to(sub).as_posix()}"
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
        for file in sorted(sub.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not names:
        loose = any(p.suffix.lower() in SUFFIXES for p in folder.iterdir() if p.is_file())
        names = [p.name for p in folder.iterdir() if p.is_file()] if loose else []
    return list_class_folders(names, where=f"--eval-data {folder}")


def list_class_folders(names: Sequence[str], *, where: str) -> list[tuple[str, str]]:
    """Return (file, class) for images in a folder for each class, by the folders' names.

    Raises:
        UsageError: there is no image, none is in a sub-folder, or the folders are parts of a set.
    """
    images = [n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES]
    if not images:
        raise UsageError(f"{where}: it holds no images{_KINDS}")
    common = _find_root(images)
    rows = [(n, n[len(common) :].partition("/")[0]) for n in images if "/" in n[len(common) :]]
    if not rows:
        raise UsageError(
            f"{where}: {len(images):,} images without labels: give them as --images, to measure"
            " without labels, or as --calibrate-with, to work with them; to measure an accuracy"
            f" add a {LABELS} with the columns file, label, or put them into a folder for each"
            " class"
        )
    folders = {label for _, label in rows}
    if folders <= PARTS:
        part = next(part for part in ("test", "val", "valid", "validation", "train", "training")
                    if part in folders)  # fmt: skip
        raise UsageError(
            f"{where}: its folders are parts of a data set ({', '.join(sorted(folders))}), no"
            f" classes; give one of them: {where}/{common}{part}"
        )
    return sorted(rows, key=lambda row: (_order(row[1]), row[0]))


def _find_root(images: Sequence[str]) -> str:
    """Return the folders that all paths begin with, where a folder for each class is below them."""
    common = ""
    while True:
        tops = {n[len(common) :].partition("/")[0] for n in images}
        deeper = all(n[len(common) :].count("/") > 1 for n in images)
        if len(tops) != 1 or not deeper:
            return common
        common += f"{tops.pop()}/"


def _order(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdecimal() and len(label) < 10 else (MAX_LABEL, label)


def decode(data: bytes, size: tuple[int, int, int], *, name: str) -> NDArray[np.uint8]:
    """Return one image as uint8 (H, W, C), scaled and cut to `size` only where it differs.

    Raises:
        UsageError: not an image that Pillow reads.
    """
    image = open_image(data, name=name, mode="L" if size[2] == 1 else "RGB")
    with parsing(name, "image"):
        return np.asarray(_fit(image, size), np.uint8).reshape(size)


def _fit(image: Image.Image, size: tuple[int, int, int]) -> Image.Image:
    """Scale the shorter side and cut the middle out; only what is kept is computed."""
    height, width, _ = size
    if image.size == (width, height):
        return image
    scale = max(height, width) / _MARGIN / min(image.size)
    scale = max(scale, width / image.width, height / image.height)
    full = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (full[0] - width) // 2, (full[1] - height) // 2
    across, down = image.width / full[0], image.height / full[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    box = (*box[:2], min(box[2], image.width), min(box[3], image.height))
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _note(name: str, data: bytes, size: tuple[int, int, int]) -> str:
    width, height = open_image(data, name=name, mode="L").size
    if (height, width) == size[:2]:
        return ""
    return (
        f"images of another size (the first is {width} x {height}) are scaled by the shorter side"
        f" and cut to the middle {size[1]} x {size[0]}"
    )
