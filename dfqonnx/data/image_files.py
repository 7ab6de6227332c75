"""Images as files in a folder or a tar, decoded when they are read."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.data.foreign_files import open_image, parsing, read_image_file
from dfqonnx.data.tar_file import read_tar
from dfqonnx.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
LABELS = "labels.csv"
MAX_LABEL = 2**31 - 1
MAX_TABLE_BYTES = 2**28
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
        return read_image_file(self.folder / name, self._where(name))

    def _where(self, name: str) -> str:
        return f"{self.flag} {self.folder}: image {name!r}"


@dataclass(frozen=True)
class TarImages:
    """Image files in a tar; it is read once, compressed bytes stay in memory."""

    path: Path
    names: tuple[str, ...]
    contents: tuple[bytes, ...]
    size: tuple[int, int, int]

    @classmethod
    def open(cls, path: Path, size: tuple[int, int, int]) -> tuple[Self, NDArray[np.int64]]:
        """Read the tar at `path`.

        Raises:
            UsageError: unreadable, or without a labels.csv that fits.
        """
        files = read_tar(path, flag="--eval-data")
        table = next((n for n in sorted(files, key=len) if Path(n).name == LABELS), None)
        if table is None:
            raise UsageError(
                f"--eval-data {path}: no {LABELS} in it; add one with the columns file, label"
            )
        root = str(Path(table).parent)
        rows = parse_labels(files[table], f"{path}: {LABELS}")
        names = tuple(n if root == "." else f"{root}/{n}" for n, _ in rows)
        missing = next((n for n in names if n not in files), None)
        if missing is not None:
            raise UsageError(f"--eval-data {path}: {LABELS} names {missing!r}, which is not in it")
        labels = np.array([label for _, label in rows], np.int64)
        return cls(path, names, tuple(files[n] for n in names), size), labels

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
        return f"--eval-data {self.path}: image {name!r}"


def read_labels(folder: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return file names and labels of a folder: labels.csv, else sub-folders 0 .. K-1.

    Raises:
        UsageError: neither is there, or a row or name cannot be read.
    """
    table = folder / LABELS
    if table.is_file():
        rows = parse_labels(_read_table(table), str(table))
        outside = next((name for name, _ in rows if not _is_inside(name)), None)
        if outside is not None:
            raise UsageError(f"--eval-data {table}: {outside!r} lies outside {folder}")
        missing = next((name for name, _ in rows if not (folder / name).is_file()), None)
        if missing is not None:
            raise UsageError(f"--eval-data {table}: names {missing!r}, which is not in {folder}")
    else:
        rows = _class_folders(folder)
    return tuple(n for n, _ in rows), np.array([label for _, label in rows], np.int64)


def parse_labels(data: bytes, where: str) -> list[tuple[str, int]]:
    """Return (file, label) rows of a labels.csv.

    Raises:
        UsageError: a column is missing or a label is not an integer.
    """
    with parsing(f"--eval-data {where}", "table of the columns file, label"):
        return _parse_rows(data.decode("utf-8-sig", errors="replace"), where)


def _parse_rows(text: str, where: str) -> list[tuple[str, int]]:
    if "\r" in text and "\n" not in text:
        raise UsageError(
            f"--eval-data {where}: its lines end in carriage returns alone; save it with the line"
            " ends of Unix (LF) or Windows (CRLF)"
        )
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or ()
    if "file" not in columns or "label" not in columns:
        raise UsageError(
            f"--eval-data {where}: its columns are {', '.join(columns) or 'none'}; expected file"
            " and label"
        )
    rows = []
    for row in reader:
        label = str(row["label"]).strip()
        value = int(label) if label.lstrip("+-").isdecimal() and len(label) < 20 else MAX_LABEL + 1
        if abs(value) > MAX_LABEL:
            raise UsageError(
                f"--eval-data {where}, line {reader.line_num}: label {row['label']!r} is not an"
                " integer that a class can have"
            )
        rows.append((str(row["file"]), value))
    return rows


def _read_table(path: Path) -> bytes:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UsageError(f"--eval-data {path}: is too large for a table of labels")
    with parsing(f"--eval-data {path}", "table of labels"):
        return path.read_bytes()


def _is_inside(name: str) -> bool:
    """Return whether a relative name stays below its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not (path.is_absolute() or ".." in path.parts or "\0" in name)


def _class_folders(folder: Path) -> list[tuple[str, int]]:
    classes = [d for d in folder.iterdir() if d.is_dir() and not d.name.startswith(".")]
    odd = [d.name for d in classes if not d.name.isdecimal()]
    if not classes or odd:
        found = f"sub-folder {sorted(odd)[0]!r}" if odd else "no sub-folders"
        raise UsageError(
            f"--eval-data {folder}: no {LABELS}, and {found}; give a {LABELS} with the columns"
            " file, label, or sub-folders named by class number, 0 to K-1"
        )
    return [
        (f"{d.name}/{file.name}", int(d.name))
        for d in sorted(classes, key=lambda d: int(d.name))
        for file in sorted(d.iterdir())
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]


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
