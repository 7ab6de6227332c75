"""The classes of a model by name, and labels that are names, numbers or one-hot rows.

Names come from `--classes FILE`, else from the model's own metadata; a data set may bring its own.

    names known             every label must be one of them, or a number
    names not known         as many different labels as the model has classes: sorted, like
                            torchvision's ImageFolder
    one-hot rows (N, K)     of a model of K classes: each row all 0 but for one 1
    (N, 1)                  as Keras writes them: the one column
    whole float numbers     of a model with classes: these classes

A class file is a list of one name a line, or JSON: a list, {"0": "cat"}, {"0": ["n0144", "tench"]}
or {"cat": 0}.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.foreign_files import parsing
from dfqonnx.errors import UsageError, did_you_mean
from dfqonnx.foreign_text import printable

METADATA_KEYS = ("names", "class_names", "classes", "labels", "categories")
MAX_CLASS_FILE = 2**24  # bytes
MOST_SHOWN = 8  # names in a message
_SYNSET = re.compile(r"(n\d{8})\s+(.+)")  # a line of ImageNet's own list


@dataclass(frozen=True)
class KnownClasses:
    """What is known of a model's classes before any label is read.

    Attributes:
        count: of them; None where the model has none.
        names: in the order of the model's outputs; empty where nobody says.
        origin: who says so, for messages.
    """

    count: int | None = None
    names: tuple[str, ...] = ()
    origin: str = ""

    def find(self, label: str) -> int | None:
        """Return the class that a label names; None where it names none."""
        wanted = _fold(label)
        for place, name in enumerate(self.names):
            if wanted in map(_fold, _spellings(name)):
                return place
        return None


def read_class_file(path: Path, count: int | None) -> KnownClasses:
    """Return the classes that a file names.

    Raises:
        UsageError: it cannot be read, or has another number of names than the model has classes.
    """
    where = f"--classes {path}"
    if not path.is_file():
        raise UsageError(f"{where}: no such file")
    if path.stat().st_size > MAX_CLASS_FILE:
        raise UsageError(f"{where}: is too large for a list of names")
    with parsing(where, "list of class names"):
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            names = _list_names(json.loads(text))
        else:
            names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise UsageError(
            f"{where}: expected one name a line, or JSON: a list, or numbers with their names"
        )
    if count is not None and len(names) != count:
        raise UsageError(f"{where}: it names {len(names)} classes, and the model has {count}")
    return KnownClasses(count, names, where)


def read_recorded_classes(metadata: Mapping[str, str], count: int | None) -> KnownClasses:
    """Return the classes that a model's metadata name; without names where they name others."""
    for key in METADATA_KEYS:
        text = metadata.get(key, "")
        if not text or len(text) > MAX_CLASS_FILE:
            continue
        names = _list_names(_read_value(text)) or tuple(
            part.strip() for part in re.split(r"[\n,;]", text) if part.strip()
        )
        if count is not None and len(names) == count:
            return KnownClasses(count, names, f"the model's metadata ({key})")
    return KnownClasses(count)


def to_classes(
    labels: Sequence[str], known: KnownClasses, *, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the classes (N,) of labels that are texts, and the names in the order of the classes.

    Raises:
        UsageError: a label names no class, or it cannot be known which class a name is.
    """
    distinct = sorted(set(labels))
    found = {label: known.find(label) for label in distinct}
    if known.names and all(place is not None for place in found.values()):
        return np.array([found[label] for label in labels], np.int64), known.names
    if all(_is_number(label) for label in distinct):
        return np.array([int(label) for label in labels], np.int64), known.names
    if known.names:
        odd = next(label for label, place in found.items() if place is None)
        near = did_you_mean(odd, known.names, label="" if len(known.names) > 20 else "Classes")
        raise UsageError(f"{where}: {printable(odd)!r} is no class of {known.origin}{near}")
    if known.count != len(distinct):
        classes = "no classes" if known.count is None else f"{known.count} classes"
        shown = ", ".join(map(printable, distinct[:MOST_SHOWN]))
        more = ", ..." if len(distinct) > MOST_SHOWN else ""
        raise UsageError(
            f"{where}: it has {len(distinct)} names ({shown}{more}) and the model {classes}, so"
            " which is which is not known; give the model's classes in order with --classes FILE"
            " (one name a line)"
        )
    places = {label: place for place, label in enumerate(distinct)}
    return np.array([places[label] for label in labels], np.int64), tuple(distinct)


def match_names(
    labels: NDArray[np.int64], own: Sequence[str], known: KnownClasses, *, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return numbers that count through a data set's `own` names as classes of the model.

    Raises:
        UsageError: see `to_classes`; a number that has no name.
    """
    if not own or not known.names or tuple(map(_fold, own)) == tuple(map(_fold, known.names)):
        return labels, tuple(own) or known.names
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(own):
        raise UsageError(f"{where}: a label is no number of its {len(own)} class names")
    if not any(known.find(name) is not None for name in own):
        return labels, tuple(own)  # two languages, or other words: the order has to be trusted
    return to_classes([own[int(label)] for label in labels], known, where=where)


def read_class_array(y: NDArray[Any], known: KnownClasses) -> NDArray[np.int64] | None:
    """Return the classes (N,) that an array holds by the conventions above; None without any."""
    if y.ndim == 2 and y.shape[1] == 1 and (known.count or 0) > 1:
        y = y[:, 0]
    if y.ndim == 1 and y.dtype.kind in "iu":
        return y.astype(np.int64)
    if known.count is None or known.count < 2 or y.dtype.kind not in "fiub":
        return None
    if y.ndim == 1 and y.dtype.kind == "f":
        whole = np.isfinite(y).all() and (y == np.floor(y)).all()
        return y.astype(np.int64) if whole else None
    if y.shape[1:] != (known.count,):
        return None
    rows = (y == 0) | (y == 1)
    is_one_hot = rows.all() and ((y == 1).sum(1) == 1).all()
    return y.argmax(1).astype(np.int64) if is_one_hot else None


def _list_names(content: Any) -> tuple[str, ...]:
    """Return the names in a list, or in a mapping from or to numbers; empty for anything else."""
    if isinstance(content, Mapping) and content:
        if all(_is_number(str(value)) for value in content.values()):
            content = {str(value): key for key, value in content.items()}
        numbers = {int(key): value for key, value in content.items() if _is_number(str(key))}
        if sorted(numbers) != list(range(len(content))):
            return ()
        content = [numbers[place] for place in range(len(numbers))]
    if not isinstance(content, (list, tuple)):
        return ()
    return tuple(" ".join(_texts(each)) for each in content)


def check_range(
    labels: NDArray[np.int64], classes: int | None, *, where: str, what: str = "input"
) -> None:
    """Refuse labels (N,) that are no class of the model; `classes` is None where nobody knows.

    Raises:
        UsageError: naming the first label out of range and whose it is.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        wrong = low if low < 0 else high
        place = int(np.flatnonzero(labels == wrong)[0])
        known = "" if classes is None else f"; the model has {classes} classes, 0 to {classes - 1}"
        raise UsageError(f"{where}: label {wrong} of {what} {place} is out of range{known}")


def _texts(value: Any) -> Iterator[str]:
    yield from map(str, value) if isinstance(value, (list, tuple)) else (str(value),)


def _read_value(text: str) -> Any:
    """Return a JSON value, or a Python one as some exporters write them; None for another text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _spellings(name: str) -> Iterable[str]:
    """Return the ways to write a class: a line of ImageNet's list is a code and several words."""
    match = _SYNSET.fullmatch(name)
    if match is None:
        return (name,)
    return (name, match[1], match[2], *match[2].split(","))


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _is_number(label: str) -> bool:
    return label.isdecimal() and label.isascii() and len(label) < 10
