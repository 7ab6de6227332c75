"""The files in a tar, read into memory; nothing is written to disk.

A compressed tar may grow a thousandfold, and a header in it may claim any length, so the stream
hands out no more at a time than one file may have, and what the headers say is added up before a
file is unpacked.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

from dfqonnx.data.foreign_files import MAX_FILE_BYTES, check_unpacked, parsing
from dfqonnx.errors import UsageError

MAX_ENTRIES = 2_000_000
XZ_MEMORY = 2**28  # bytes that unpacking an xz file may take
_COMPRESSED: Mapping[bytes, Callable[[Path], object]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


class _BoundedStream(io.RawIOBase):
    """A stream that refuses to hand out more than one file may have at a time."""

    def __init__(self, stream: IO[bytes], where: str) -> None:
        self.stream, self.where = stream, where

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_FILE_BYTES:
            raise UsageError(
                f"{self.where}: an entry of {size:,} bytes is no image, but damaged or a bomb"
            )
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def read_tar(path: Path, *, flag: str) -> dict[str, bytes]:
    """Return name -> content of every plain file in a tar, compressed or not.

    Raises:
        UsageError: it is damaged, or unpacks to more than memory can spare.
    """
    where = f"{flag} {path}"
    with parsing(where, "tar file"), _open(path) as stream:
        bounded = cast("IO[bytes]", _BoundedStream(stream, where))
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            return dict(_read_files(archive, where))


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(2**16)
    for signature, opener in _COMPRESSED.items():
        if start.startswith(signature):
            if signature.startswith(b"\xfd"):  # refuses a dictionary of many GB
                lzma.LZMADecompressor(memlimit=XZ_MEMORY).decompress(start, max_length=1)
            return cast("IO[bytes]", opener(path))
    return path.open("rb")


def _read_files(archive: tarfile.TarFile, where: str) -> Iterator[tuple[str, bytes]]:
    total = 0
    for count, member in enumerate(archive):
        archive.members = []  # type: ignore[attr-defined]  # they would be kept for all entries
        total += member.size
        if count >= MAX_ENTRIES:
            raise UsageError(f"{where}: more than {MAX_ENTRIES:,} entries")
        if member.size > MAX_FILE_BYTES:
            raise UsageError(
                f"{where}: {member.name!r} has {member.size:,} bytes, too many for an image"
            )
        check_unpacked(where, total)
        handle = archive.extractfile(member) if member.isreg() else None
        if handle is not None:
            content = handle.read()
            if len(content) != member.size:
                raise UsageError(f"{where}: {member.name!r} is cut short")
            yield member.name.removeprefix("./"), content
