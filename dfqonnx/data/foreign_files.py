"""Bytes of strangers: every parser behind one door, bounded, and with one message for damage.

zipfile, tarfile, csv, numpy and Pillow raise some twenty kinds of errors over damaged bytes, more
with every version, so `parsing` takes any of them for damage and names the file and the entry.

Before anything is unpacked, what it would take is compared with the memory that is free: a file
that grows a thousandfold is told as such, and not as a model that is too large.
"""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from PIL import Image

from dfqonnx.errors import DfqError, UsageError
from dfqonnx.foreign_text import printable

MAX_FILE_BYTES = 2**28  # of one image, or one table
MAX_PIXELS = 2**26  # of one image: 67 million, 200 MB when decoded
MEMORY_SHARE = 0.5  # of the free memory that unpacked data may take
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")  # others may start programs


@contextmanager
def parsing(where: str, what: str) -> Iterator[None]:
    """Turn whatever a parser raises over foreign bytes into one message.

    Args:
        where: the option, the file and the entry.
        what: what was expected, such as `image`.

    Raises:
        UsageError: anything was raised within, memory that is missing included.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DfqError:
        raise
    except MemoryError:
        raise UsageError(f"{where}: unpacks to more than this machine's memory") from None
    except Exception as error:  # noqa: BLE001 - see the top of this file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        words = re.sub(r" <[^<>]* at 0x[0-9a-f]+>", "", str(reason))  # an address in memory
        raise UsageError(f"{where}: not a readable {what} ({printable(words)})") from None


def check_unpacked(where: str, size: int) -> None:
    """Refuse data that unpack to `size` bytes where that is more than memory can spare.

    Raises:
        UsageError: it is.
    """
    free = int(psutil.virtual_memory().available * MEMORY_SHARE)
    if size > free:
        raise UsageError(
            f"{where}: unpacks to {size / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of memory"
            " can be spared; give fewer images, or a folder of image files, which are read one by"
            " one"
        )


def read_plain_file(path: Path, where: str, *, what: str) -> bytes:
    """Return the bytes of a file that is to be `what`, such as `an image`.

    Raises:
        UsageError: it is no plain file (a pipe would wait for ever, a device never ends), cannot be
            read, or is too large for one image or table.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{where}: is not a plain file")
        if found.st_size > MAX_FILE_BYTES:
            raise UsageError(f"{where}: {found.st_size:,} bytes are too many for {what}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{where}: cannot be read: {reason}") from None


def open_image(data: bytes, *, name: str, mode: str) -> Image.Image:
    """Return the decoded image in `mode`: RGB, L, or P for a mask's own numbers.

    Raises:
        UsageError: not an image that is read here, damaged, or too large.
    """
    with parsing(name, "image"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UsageError(
                f"{name}: {image.width:,} x {image.height:,} pixels are too many for one image"
                f" ({MAX_PIXELS:,} at most)"
            )
        image.load()
        return image.copy() if mode == "P" else image.convert(mode)
