"""Images in parquet files, as the data sets of Hugging Face's hub are stored; needs pyarrow.

image    a column of bytes, or of structs with `bytes` (and `path`), each an image file
label    whole numbers or names; the names of the numbers stand in the file's own metadata:
         schema metadata "huggingface": {"info": {"features": {"label": {"names": [...]}}}}

A value that many rows share is stored once, and would be unpacked for each of them: 50 KB become
gigabytes. So bytes and texts are read as a dictionary and places in it, and rows share them.
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
from dfqonnx.foreign_text import printable

SUFFIX = ".parquet"
IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "jpeg", "png", "bytes")
_LABELS = (*LABEL_COLUMNS, "labels", "fine_label", "targets")
_METADATA = b"huggingface"
MOST_ROWS = 2_000_000  # of all files together
MOST_GROWTH, BOMB_BYTES = 100, 2**26  # a hundredfold, of what is worth a refusal


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
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob(f"*{SUFFIX}") if file.is_file())


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
            metadata, schema = parquet.read_metadata(file), parquet.read_schema(file)
            image, label = _find_columns(schema, f"{flag} {file}")
            leaves = _find_leaves(schema, image, label, f"{flag} {file}")
            _check_sizes(metadata, leaves, f"{flag} {file}", (file.stat().st_size, len(images)))
            table = parquet.ParquetFile(file, read_dictionary=leaves).read(columns=leaves)
            values = _list_values(table.column(image))
            images += [_bytes_of(v, k, f"{flag} {file}") for k, v in enumerate(values)]
            labels += [] if label is None else _list_values(table.column(label))
            names = names or _read_names(schema.metadata or {}, label)
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


def _find_leaves(schema: Any, image: str, label: str | None, where: str) -> list[str]:
    """Return the columns as parquet names them, so that nothing else is unpacked."""
    import pyarrow.types as types

    kind = schema.field(image).type
    is_struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    content = kind.field("bytes").type if is_struct else kind
    content = content.value_type if types.is_dictionary(content) else content
    if not (types.is_binary(content) or types.is_large_binary(content)):
        raise UsageError(
            f"{where}: {printable(image)} is {printable(str(kind))}; expected the bytes of image"
            " files"
        )
    if label is not None and types.is_nested(schema.field(label).type):
        raise UsageError(f"{where}: {printable(label)} holds lists; expected one label a row")
    return [f"{image}.bytes" if is_struct else image, *([] if label is None else [label])]


def _check_sizes(metadata: Any, leaves: Sequence[str], where: str, before: tuple[int, int]) -> None:
    """Refuse more rows, or larger columns, than memory can spare.

    `before` are the bytes of the file, and the rows of the files before it.
    """
    file_bytes, already = before
    if metadata.num_rows + already > MOST_ROWS:
        raise UsageError(
            f"{where}: {metadata.num_rows + already:,} rows, and {MOST_ROWS:,} are the most"
        )
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(metadata.num_columns)]
    read = [chunk for chunk in chunks if chunk.path_in_schema in leaves]
    size = sum(chunk.total_uncompressed_size for chunk in read)
    if size > MOST_GROWTH * max(file_bytes, BOMB_BYTES // MOST_GROWTH):
        raise UsageError(
            f"{where}: {file_bytes:,} bytes unpack to {size:,}, which image files never do: it is a"
            " bomb, or damaged"
        )
    check_unpacked(where, size)


def _list_values(column: Any) -> list[Any]:
    """Return the values of a column, or of the field `bytes` in it; equal ones are one object."""
    import pyarrow as arrow

    found: list[Any] = []
    for chunk in column.chunks:
        values = chunk.flatten()[0] if isinstance(chunk, arrow.StructArray) else chunk
        if isinstance(values, arrow.DictionaryArray):
            words = [*values.dictionary.to_pylist(), None]
            found += [words[-1 if k is None else k] for k in values.indices.to_pylist()]
        else:
            found += values.to_pylist()
    return found


def _bytes_of(value: Any, row: int, where: str) -> bytes:
    if not isinstance(value, bytes):
        raise UsageError(f"{where}: row {row} holds no bytes of an image file")
    return value


def _read_names(metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...]:
    content = json.loads(metadata[_METADATA]) if _METADATA in metadata else {}
    for key in ("info", "features", label, "names"):
        content = content.get(key) if isinstance(content, dict) else None
    return tuple(map(str, content)) if isinstance(content, list) else ()


def _to_labels(values: Sequence[Any], where: str) -> tuple[int, ...] | tuple[str, ...] | None:
    if not values:
        return None
    if all(isinstance(value, str) for value in values):
        return tuple(values)
    odd = [v for v in values if not isinstance(v, int) or isinstance(v, bool) or abs(v) >= 2**31]
    if odd:
        shown = printable(repr(odd[0])[:60])
        raise UsageError(f"{where}: label {shown} is neither a class number nor a name")
    return tuple(values)
