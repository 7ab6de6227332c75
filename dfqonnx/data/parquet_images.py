"""Images in parquet files, as the data sets of Hugging Face's hub are stored; needs pyarrow.

image    a column of bytes, or of structs with `bytes` (and `path`), each an image file
label    whole numbers or names; the names of the numbers stand in the file's own metadata:
         schema metadata "huggingface": {"info": {"features": {"label": {"names": [...]}}}}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfqonnx.data.class_labels import KnownClasses, match_names, to_classes
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.foreign_files import check_unpacked, parsing
from dfqonnx.data.image_files import LABEL_COLUMNS, PARTS, TarImages
from dfqonnx.errors import EnvironmentProblem, UsageError

SUFFIX = ".parquet"
IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "jpeg", "png", "bytes")
_LABELS = (*LABEL_COLUMNS, "labels", "fine_label", "targets")
_METADATA = b"huggingface"


@dataclass(frozen=True)
class ParquetRows:
    """Encoded images of one set, their labels as stored, and the names of the numbers."""

    images: tuple[bytes, ...]
    labels: tuple[int, ...] | tuple[str, ...] | None  # None where there is no column of them
    names: tuple[str, ...] = ()


def holds_parquet(path: Path) -> bool:
    """Return whether a path is a parquet file, or a folder with some and nothing better."""
    if path.is_dir():
        return bool(list_files(path)) and not (path / "labels.csv").is_file()
    return path.suffix.lower() == SUFFIX


def list_files(path: Path) -> list[Path]:
    """Return the parquet files at or below a path, by name."""
    return [path] if path.is_file() else sorted(path.rglob(f"*{SUFFIX}"))


def read_parquet(path: Path, *, flag: str) -> ParquetRows:
    """Read the images and labels of a parquet file, or of all in a folder.

    Raises:
        UsageError: damaged, without images, of several parts, or larger than memory.
        EnvironmentProblem: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise EnvironmentProblem(
            f"{flag} {path}: parquet files need pyarrow: pip install 'dfqonnx[parquet]'"
        ) from None
    files, where = list_files(path), f"{flag} {path}"
    parts = {file.name.lower().partition("-")[0] for file in files} & PARTS
    if len(parts) > 1:
        raise UsageError(
            f"{where}: its files are parts of a data set ({', '.join(sorted(parts))}); give one"
        )
    check_unpacked(where, sum(file.stat().st_size for file in files))
    images: list[bytes] = []
    labels: list[Any] = []
    names: tuple[str, ...] = ()
    for file in files:
        with parsing(f"{flag} {file}", "parquet file"):
            table = parquet.read_table(file)
            image, label = _find_columns(table.schema, f"{flag} {file}")
            values = table.column(image).to_pylist()
            images += [_bytes_of(v, k, f"{flag} {file}") for k, v in enumerate(values)]
            labels += [] if label is None else table.column(label).to_pylist()
            names = names or _read_names(table.schema.metadata or {}, label)
    if not images:
        raise UsageError(f"{where}: it holds no images")
    return ParquetRows(tuple(images), _to_labels(labels, where), names)


def open_parquet(path: Path, size: tuple[int, int, int], known: KnownClasses) -> EvalData:
    """Open labeled images for a model that takes (H, W, C) `size`.

    Raises:
        UsageError: see `read_parquet`; or labels do not fit the model's classes.
        EnvironmentProblem: pyarrow is not installed.
    """
    flag = "--eval-data"
    where = f"{flag} {path}"
    rows = read_parquet(path, flag=flag)
    if rows.labels is None:
        raise UsageError(
            f"{where}: {len(rows.images):,} images and no column of labels ({', '.join(_LABELS)});"
            " give them as --images, to measure without labels"
        )
    texts = [label for label in rows.labels if isinstance(label, str)]
    if texts:
        labels, names = to_classes(texts, known, where=where)
    else:
        numbers = np.array(rows.labels, np.int64)
        labels, names = match_names(numbers, rows.names, known, where=where)
    images = open_rows(path, rows, size)
    return EvalData(
        source=path,
        count=len(labels),
        labels=labels,
        images=images,
        note=images.note(),
        class_names=names,
    )


def open_rows(
    path: Path, rows: ParquetRows, size: tuple[int, int, int], *, flag: str = "--eval-data"
) -> TarImages:
    """Return what decodes the images of rows for a model that takes (H, W, C) `size`."""
    names = tuple(f"row {place}" for place in range(len(rows.images)))
    return TarImages(path=path, names=names, contents=rows.images, size=size, flag=flag)


def _find_columns(schema: Any, where: str) -> tuple[str, str | None]:
    """Return the names of the columns of images and of labels."""
    lower = {name.lower(): name for name in reversed(schema.names)}
    image = next((lower[name] for name in IMAGE_COLUMNS if name in lower), None)
    if image is None:
        raise UsageError(
            f"{where}: its columns are {', '.join(schema.names) or 'none'}; expected image, with"
            " the bytes of image files"
        )
    return image, next((lower[name] for name in _LABELS if name in lower), None)


def _bytes_of(value: Any, row: int, where: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise UsageError(f"{where}: row {row} holds no bytes of an image file")
    return content


def _read_names(metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...]:
    content = json.loads(metadata[_METADATA]) if _METADATA in metadata else {}
    features = content.get("info", {}).get("features", {})
    found = features.get(label, {}).get("names", ()) if isinstance(features, dict) else ()
    return tuple(map(str, found))


def _to_labels(values: Sequence[Any], where: str) -> tuple[int, ...] | tuple[str, ...] | None:
    if not values:
        return None
    if all(isinstance(value, str) for value in values):
        return tuple(values)
    if all(isinstance(value, int) and abs(value) < 2**31 for value in values):
        return tuple(values)
    odd = next(value for value in values if not isinstance(value, int))
    raise UsageError(f"{where}: label {odd!r} is neither a class number nor a name")
