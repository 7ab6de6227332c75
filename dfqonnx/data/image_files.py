"""Images as files in a folder or a tar, decoded when they are read."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dfqonnx.errors import UsageError

T = TypeVar("T")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
LABELS = "labels.csv"
_MARGIN = 224 / 256  # the middle that is kept of an image scaled by its shorter side


class ImageSource(Protocol):
    """Reads images by position."""

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 (n, H, W, C)."""

    def note(self) -> str:
        """Return what was done to the images to fit the model; empty when nothing."""


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
        return _note(str(self.folder / self.names[0]), self._bytes(self.names[0]), self.size)

    def _one(self, name: str) -> NDArray[np.uint8]:
        return decode(self._bytes(name), self.size, name=str(self.folder / name))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise UsageError(
                f"{self.flag} {self.folder}: image {name!r} cannot be read: {error.strerror}"
            ) from None


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
        files: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    handle = archive.extractfile(member) if member.isfile() else None
                    if handle is not None:
                        files[member.name.removeprefix("./")] = handle.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UsageError(f"--eval-data {path}: not a readable tar file ({error})") from None
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
        return np.stack([decode(c, self.size, name=f"{self.path}: {n}") for n, c in pairs])

    def note(self) -> str:
        """Return whether the first image has another size."""
        return _note(f"{self.path}: {self.names[0]}", self.contents[0], self.size)


def read_labels(folder: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return file names and labels of a folder: labels.csv, else sub-folders 0 .. K-1.

    Raises:
        UsageError: neither is there, or a row or name cannot be read.
    """
    table = folder / LABELS
    if table.is_file():
        rows = parse_labels(table.read_bytes(), str(table))
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
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig", errors="replace")))
    columns = reader.fieldnames or ()
    if "file" not in columns or "label" not in columns:
        raise UsageError(
            f"--eval-data {where}: its columns are {', '.join(columns) or 'none'}; expected file"
            " and label"
        )
    rows = []
    for row in reader:
        try:
            rows.append((str(row["file"]), int(row["label"])))
        except (TypeError, ValueError):
            raise UsageError(
                f"--eval-data {where}, line {reader.line_num}: label {row['label']!r} is not an"
                " integer"
            ) from None
    return rows


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
        if file.suffix.lower() in SUFFIXES
    ]


def decode(data: bytes, size: tuple[int, int, int], *, name: str) -> NDArray[np.uint8]:
    """Return one image as uint8 (H, W, C), scaled and cut to `size` only where it differs.

    Raises:
        UsageError: not an image that Pillow reads.
    """
    height, width, channels = size

    def fit(image: Image.Image) -> Image.Image:
        if image.size == (width, height):
            return image
        scale = max(height, width) / _MARGIN / min(image.size)
        scale = max(scale, width / image.width, height / image.height)
        full = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        image = image.resize(full, Image.Resampling.BILINEAR)
        left, top = (full[0] - width) // 2, (full[1] - height) // 2
        return image.crop((left, top, left + width, top + height))

    mode = "L" if channels == 1 else "RGB"
    pixels = np.asarray(_open(data, name, lambda image: fit(image.convert(mode))), np.uint8)
    return pixels.reshape(size)


def _open(data: bytes, name: str, use: Callable[..., T]) -> T:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return use(image)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name}: not a readable image ({error})") from None


def _note(name: str, data: bytes, size: tuple[int, int, int]) -> str:
    width, height = _open(data, name, lambda image: image.size)
    if (height, width) == size[:2]:
        return ""
    return (
        f"images of another size (the first is {width} x {height}) are scaled by the shorter side"
        f" and cut to the middle {size[1]} x {size[0]}"
    )
