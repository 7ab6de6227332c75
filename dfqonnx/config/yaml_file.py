"""Read a small YAML mapping; every failure is one sentence that names the file and the line.

What a text would become is counted before it is built: aliases of aliases grow a thousandfold, and
lists in lists in lists overflow a stack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from dfqonnx.errors import UsageError

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 2**20, 20_000, 50
MAX_NUMBER = 1e15  # no setting is beyond it, and what is computed with it stays finite


class _CarefulLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, and whose errors all have their line."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=node.start_mark
                )
            seen |= {key} if isinstance(key, str) else set()
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, OverflowError, TypeError) as error:  # a date or number that is none
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r:.100} is no value ({error})", problem_mark=node.start_mark
            ) from None
        if isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"{node.value!r:.100} is not a number from -{MAX_NUMBER:g} to"
                f" {MAX_NUMBER:g}",
                problem_mark=node.start_mark,
            )
        return value


def read_mapping(path: Path, *, what: str) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        UsageError: the file is missing, not text, not YAML, too large, or not a mapping.
    """
    text = _read_text(path, what)
    try:
        _check_size(text)
        content = yaml.load(text, Loader=_CarefulLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise UsageError(f"{what} {path}{place}: {error.problem}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{what} {path}: not valid YAML ({reason})") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(
            f"{what} {path}: expected `key: value` lines, found {type(content).__name__}"
        )
    return content


def _read_text(path: Path, what: str) -> str:
    if path.exists() and not path.is_file():
        raise UsageError(f"{what} {path}: cannot be read: it is no plain file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{what} {path}: over {MAX_BYTES:,} bytes are too many for a {what}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{what} {path}: no such file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path}: not a text file; a YAML file is expected") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{what} {path}: cannot be read ({reason})") from None


def _check_size(text: str) -> None:
    """Refuse a text with too many values, aliases counted as what they stand for, or levels."""
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and values so far
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
        elif isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent, yaml.CollectionEndEvent)):
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, count = open_nodes.pop()
            else:
                anchor = event.anchor
                count = 1
                if isinstance(event, yaml.AliasEvent):  # one that stands in itself is endless
                    anchor, count = None, anchors.get(str(event.anchor), MAX_VALUES)
            if anchor is not None:
                anchors[anchor] = count
            open_nodes[-1] = (open_nodes[-1][0], open_nodes[-1][1] + count)
        if len(open_nodes) > MAX_DEPTH:
            problem = f"its values nest over {MAX_DEPTH} deep"
        elif open_nodes[-1][1] >= MAX_VALUES:
            problem = f"it stands for {MAX_VALUES:,} values or more, aliases written out"
        else:
            continue
        raise yaml.MarkedYAMLError(
            problem=problem, problem_mark=cast("yaml.error.Mark", event.start_mark)
        )
