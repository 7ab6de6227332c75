"""Read a small YAML mapping; every failure is one sentence that names the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dfqonnx.errors import UsageError


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def read_mapping(path: Path, *, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        UsageError: the file is missing, not text, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{what} {path}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path}: not a text file; a YAML file is expected") from None
    except OSError as error:
        raise UsageError(f"{what} {path}: cannot be read ({error.strerror})") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise UsageError(f"{what} {path}{place}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{what} {path}: not valid YAML ({error})") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(
            f"{what} {path}: expected `key: value` lines, found {type(content).__name__}"
        )
    return content
