"""The memory that a container leaves to its processes, as Linux control groups state it.

    /proc/self/cgroup       0::/PATH (version 2), N:memory,...:/PATH (version 1)
    /proc/self/mountinfo    where each hierarchy is mounted, and which of its groups is on top
    memory.max              version 2: bytes, or `max`
    memory.limit_in_bytes   version 1: bytes; about 2^63 where there is no limit

A limit of any group above counts as well, so all of them are read up to the top of the mount. In a
container the path is often that of the host, which does not exist there: then the nearest group
above it that does exist is the container's own. What cannot be read is no limit. Source: the
kernel's admin-guide, cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

NO_LIMIT = 2**60  # bytes from which on a number stands for no limit
FILES = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}  # by the type of the mount


def find_memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that all processes of this container may hold; None without a limit.

    `root` is where `proc` and `sys` are found.
    """
    return min(_read_limits(root), default=None)


def usable_memory() -> int:
    """Return the bytes of this machine, or of the container where that is less."""
    physical = int(psutil.virtual_memory().total)
    return min(physical, find_memory_limit() or physical)


def _read_limits(root: Path) -> Iterator[int]:
    groups = dict(_own_groups(root))
    for kind, mounted, top in _mounts(root):
        if kind not in groups:
            continue
        group = groups[kind]
        inner = group.relative_to(top) if group.is_relative_to(top) else PurePosixPath()
        folder = root / mounted.relative_to("/")
        for above in (folder / inner, *(folder / parent for parent in inner.parents)):
            limit = _read_limit(above / FILES[kind])
            if limit is not None:
                yield limit


def _own_groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield the type of the hierarchy and the path of this process's group in it."""
    for line in _read_lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", _normal(path)
        elif "memory" in controllers.split(","):
            yield "cgroup", _normal(path)


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """Yield type, mount point and top group of every hierarchy that may limit memory."""
    for line in _read_lines(root / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - ")
        fields, about = before.split(), after.split()
        if not separator or len(fields) < 5 or not about:
            continue
        kind, options = about[0], about[-1].split(",")
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options):
            yield kind, PurePosixPath(_unescaped(fields[4])), _normal(_unescaped(fields[3]))


def _normal(path: str) -> PurePosixPath:
    """Return an absolute path; what leads above the top (`/..`) is the top."""
    parts: list[str] = [part for part in path.strip().split("/") if part not in {"", ".", ".."}]
    return PurePosixPath("/", *parts)


def _unescaped(text: str) -> str:
    r"""Return a path of mountinfo, whose blanks and backslashes are written as octal numbers.

    >>> _unescaped(r"/a\040b")
    '/a b'
    """
    for octal, letter in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, letter)
    return text


def _read_limit(file: Path) -> int | None:
    text = "".join(_read_lines(file)).strip()
    if not text.isascii() or not text.isdigit():  # `max`, or no such file
        return None
    limit = int(text)
    return limit if 0 < limit < NO_LIMIT else None


def _read_lines(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    return []
