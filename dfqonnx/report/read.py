"""`report.json` back into a `Report`: what a later command or version reads.

Keys that this version does not know are passed over, those that are missing take their defaults,
so a report written by any dfqonnx with the same schema number can be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dfqonnx.errors import UsageError
from dfqonnx.report.model import SCHEMA, Report

NAME = "report.json"
_BOUNDS = ("value", "low", "high", "n")


def read_report(folder: Path) -> Report:
    """Return the report that lies in `folder` (or in the file `report.json` itself).

    Raises:
        UsageError: there is none, or it is none that this version reads; the key is named.
    """
    path = folder / NAME if folder.is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: has no {NAME}; give the output folder of `dfqonnx run`"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable report ({error})") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise UsageError(f"{path}: schema {found!r}; this dfqonnx reads {SCHEMA!r}")
    try:
        return _ADAPTER.validate_python(_nested(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {key}: {first['msg'].lower()}") from None


def _nested(content: dict[str, Any]) -> dict[str, Any]:
    """Undo what `to_json` flattens."""
    content = {**content}
    flat = content.pop("drop_points", None)
    if flat is not None:
        rest = {key: value for key, value in flat.items() if key not in _BOUNDS}
        content["drop"] = {"points": {key: flat.get(key) for key in _BOUNDS}, **rest}
    return content


_ADAPTER = TypeAdapter(Report)
