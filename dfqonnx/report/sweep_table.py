"""The tables of a sweep on disk: `sweep.parquet`, one row a task, and reading an earlier sweep."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.report.sweep_result import (
    FIGURES,
    SCHEMA,
    QualityFigure,
    SweepResult,
    SweepRow,
    row_values,
)

NO_PARQUET = "sweep.parquet needs pyarrow: pip install 'dfqonnx[parquet]'"
_INTEGERS = ("seed", "exit_code", "attempts")
_NUMBERS = ("quality_value", "quality_low", "quality_high")
_ROWS = TypeAdapter(tuple[SweepRow, ...])
_QUALITIES = TypeAdapter(tuple[QualityFigure, ...])


def has_pyarrow() -> bool:
    """Return whether Parquet can be written."""
    return importlib.util.find_spec("pyarrow") is not None


def write_parquet(result: SweepResult, path: Path) -> None:
    """Write one row a task, all columns always there; name and times of the sweep are metadata."""
    import pyarrow
    import pyarrow.parquet

    rows = [row_values(row) for row in result.rows]
    figures = {name.replace("-", "_") for name in FIGURES}
    fields = []
    for name in row_values(result.rows[0]):
        if name in _INTEGERS:
            kind = pyarrow.int64()
        elif name in figures or name in _NUMBERS:
            kind = pyarrow.float64()
        else:
            kind = pyarrow.bool_() if name == "higher_is_better" else pyarrow.string()
        fields.append(pyarrow.field(name, kind))
    metadata = {
        "schema": SCHEMA, "name": result.name, "created": result.created,
        "engine": result.engine, "version": result.version,
    }  # fmt: skip
    schema = pyarrow.schema(fields, metadata=metadata)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def read_rows(path: Path) -> tuple[SweepRow, ...]:
    """Return the rows of `sweep.json` or `sweep.parquet`, or of a folder that holds one of them.

    Raises:
        UsageError: there is none, or it is no table of a sweep.
        EnvironmentProblem: Parquet is to be read and pyarrow is missing.
    """
    if path.is_dir():
        known = [path / name for name in ("sweep.json", "sweep.parquet")]
        path = next((file for file in known if file.is_file()), known[0])
    if not path.is_file():
        raise UsageError(
            f"--since {path}: no such file; give a sweep's folder, its JSON or Parquet"
        )
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--since {path}: not a readable JSON ({error})") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise UsageError(f"--since {path}: its schema is {found!r}; expected {SCHEMA!r}")
    try:
        return _ROWS.validate_python(content.get("rows"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("rows", *first["loc"])))
        raise UsageError(f"--since {path}: {place}: {first['msg'].lower()}") from None


def _read_parquet(path: Path) -> tuple[SweepRow, ...]:
    if not has_pyarrow():
        raise EnvironmentProblem(f"--since {path}: {NO_PARQUET}")
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return tuple(map(_row_from, rows))
    except (pyarrow.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"--since {path}: not the Parquet table of a sweep ({error})") from None


def _row_from(values: Mapping[str, Any]) -> SweepRow:
    names = (
        "task", "model", "bits", "target", "recipe", "seed", "status", "reason", "exit_code",
        "verdict", "attempts", "where", "folder", "model_location", "model_sha256",
        "student_sha256", "key", "version",
    )  # fmt: skip
    figures = {
        name: values[key] for name in FIGURES if values[key := name.replace("-", "_")] is not None
    }
    qualities = _QUALITIES.validate_json(values["qualities"])
    given = {name: values[name] for name in names}
    return _ROWS.validate_python([{**given, "figures": figures, "qualities": qualities}])[0]


def read_row(data: bytes) -> SweepRow | None:
    """Return the row that a finished task left; None where it cannot be read by this version."""
    try:
        content = json.loads(data)
        return _ROWS.validate_python([content])[0]
    except (ValueError, RecursionError):
        return None
