"""Lines that native code writes to stdout past Python, kept out of it.

A program that prints JSON on stdout cannot have others there. What native code writes goes to file
descriptor 1, so `sys.stdout` does not see it: for the time of a call the descriptor is that of a
temporary file, from which all other lines are written where they belong.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = 1  # the descriptor


@contextmanager
def without_native_lines(start: bytes) -> Iterator[None]:
    """Drop lines that begin with `start` from what is written to stdout within the block."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(STDOUT)
    except OSError:  # stdout is closed
        yield
        return
    with os.fdopen(kept, "wb") as true, tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), STDOUT)
        try:
            yield
        finally:
            os.dup2(true.fileno(), STDOUT)
            caught.seek(0)
            true.writelines(line for line in caught if not line.startswith(start))
