"""The files below a folder, or in a tar, by their paths: what layouts of labels are found in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dfqonnx.data.foreign_files import parsing, read_plain_file
from dfqonnx.data.image_files import SUFFIXES
from dfqonnx.data.tar_file import read_tar
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable

MOST_FILES = 2_000_000
FLAG = "--eval-data"


@dataclass(frozen=True)
class FileTree:
    """Files by path, `/` between the parts; those of a tar are in memory."""

    path: Path
    names: tuple[str, ...]  # sorted
    contents: Mapping[str, bytes] | None = None  # of a tar; None reads the folder

    def where(self, name: str) -> str:
        """Return how messages name a file."""
        between = "/" if self.contents is None else ": "
        return f"{FLAG} {self.path}{between}{printable(name)}"

    def read(self, name: str, *, what: str = "an image") -> bytes:
        """Return the bytes of a file that is to be `what`.

        Raises:
            UsageError: it cannot be read.
        """
        if self.contents is not None:
            return self.contents[name]
        return read_plain_file(self.path / name, self.where(name), what=what)

    def read_text(self, name: str) -> str:
        """Return the text of a file, a byte order mark left out.

        Raises:
            UsageError: it is no UTF-8.
        """
        with parsing(self.where(name), "text in UTF-8"):
            return self.read(name, what="a text").decode("utf-8-sig")

    def read_json(self, name: str) -> Any:
        """Return what a JSON file holds.

        Raises:
            UsageError: it is no JSON.
        """
        text = self.read_text(name)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.where(name)}: not a readable JSON file ({error})") from None

    def images(self) -> tuple[str, ...]:
        """Return the files that look like images."""
        return tuple(n for n in self.names if PurePosixPath(n).suffix.lower() in SUFFIXES)

    def named(self, suffix: str) -> tuple[str, ...]:
        """Return the files that end with `suffix`, those nearest to the root first."""
        found = [n for n in self.names if n.lower().endswith(suffix)]
        return tuple(sorted(found, key=lambda n: (n.count("/"), n)))


def open_tree(path: Path) -> FileTree:
    """Open a folder, hidden files left out, or a tar.

    Raises:
        UsageError: the tar is damaged, or the folder holds too many files.
    """
    if not path.is_dir():
        contents = read_tar(path, flag=FLAG)
        return FileTree(path, tuple(sorted(contents)), contents)
    names = []
    for each in path.rglob("*"):
        name = each.relative_to(path).as_posix()
        if not any(part.startswith(".") for part in name.split("/")) and each.is_file():
            names.append(name)
        if len(names) > MOST_FILES:
            raise UsageError(f"{FLAG} {path}: more than {MOST_FILES:,} files")
    return FileTree(path, tuple(sorted(names)))


def find_image(tree: FileTree, name: str, *, near: str, where: str) -> str:
    """Return the path of the image that labels in the file `near` call `name`.

    It is looked for beside that file, at the root, in `images`, and then by its last part anywhere.

    Raises:
        UsageError: it is not there, or there are several.
    """
    folder = PurePosixPath(near).parent
    known = set(tree.names)
    for place in (folder, folder.parent, PurePosixPath(), folder / "images",
                  folder.parent / "images", PurePosixPath("images")):  # fmt: skip
        found = (place / name).as_posix()
        if found in known:
            return found
    last = PurePosixPath(name).name
    found_by_name = [n for n in tree.names if PurePosixPath(n).name == last]
    if len(found_by_name) == 1:
        return found_by_name[0]
    problem = "is not there" if not found_by_name else f"is there {len(found_by_name)} times"
    raise UsageError(f"{where}: image {printable(name)!r} {problem}")
