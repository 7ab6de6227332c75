"""Arrays out of an npz file (a zip of npy entries), each entry checked before it is unpacked.

An entry's header says the array's shape and type, the zip's directory how many bytes there are;
the two must agree, and memory must hold them. Objects are never unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from dfqonnx.data.foreign_files import check_unpacked, parsing
from dfqonnx.errors import UsageError

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
ENCRYPTED = 1  # a bit of an entry's flags
_MAX_HEADER = 2**16  # bytes; a header may claim 4 GB of them, which deflate to nothing
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class ObjectArray(UsageError):
    """An array of Python objects, which nobody unpickles here."""


def list_arrays(path: Path, *, flag: str) -> tuple[str, ...]:
    """Return the names of the arrays in the npz file `path`, given with the option `flag`.

    Raises:
        UsageError: it is no zip file, or damaged.
    """
    with parsing(f"{flag} {path}", "npz file"), zipfile.ZipFile(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist())


def read_arrays(path: Path, keys: Collection[str], *, flag: str) -> dict[str, NDArray[Any]]:
    """Return the arrays `keys` of the npz file `path`, given with the option `flag`.

    Raises:
        UsageError: one is missing, damaged, encrypted, of objects, or larger than memory; the
            message names the entry.
    """
    where = f"{flag} {path}"
    with parsing(where, "npz file"), zipfile.ZipFile(path) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [key for key in keys if key not in entries]
        if missing:
            wanted = ", ".join(f"{key}=..." for key in keys)
            raise UsageError(
                f"{where}: array {missing[0]!r} is missing (it has"
                f" {', '.join(entries) or 'none'}); save with numpy.savez(path, {wanted})"
            )
        return {key: _read_entry(archive, entries[key], f"{where}: {key}") for key in keys}


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    if info.flag_bits & ENCRYPTED:
        raise UsageError(f"{where}: is encrypted; save it without a password")
    if info.compress_type not in METHODS:
        raise UsageError(f"{where}: unknown compression method {info.compress_type}")
    with parsing(where, "npy array"):
        with archive.open(info) as stream:
            size = _read_header(io.BytesIO(stream.read(_MAX_HEADER)), where)
        if size != info.file_size:
            raise UsageError(
                f"{where}: its header is of an array of {size:,} bytes, and {info.file_size:,} are"
                " there: it is damaged"
            )
        with archive.open(info) as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            while stream.read(2**16):  # the checksum is compared at the end
                pass
        return array


def _read_header(stream: IO[bytes], where: str) -> int:
    """Read the header and return the bytes of the header and of the array."""
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise UsageError(f"{where}: an npy array of the unknown version {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ObjectArray(
            f"{where}: not a readable npz entry: it holds Python objects; save plain numbers"
        )
    if any(side < 0 for side in shape):
        raise UsageError(f"{where}: its shape {shape} is damaged")
    size = math.prod(shape) * dtype.itemsize
    check_unpacked(where, size)
    return stream.tell() + size
