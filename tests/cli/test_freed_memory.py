"""Freed memory stays with the process: seen by the pages that the system has to give anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dfqonnx.cli.freed_memory import CHOSEN_BY_USERS, keep_freed_memory

SCRIPT = """
import ctypes, resource, sys
from dfqonnx.cli.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory({})
library = ctypes.CDLL("libc.so.6")
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
def turn():
    blocks = [library.malloc(ctypes.c_size_t(4 << 20)) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, 4 << 20)
    for block in blocks:
        library.free(block)
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_not_asked_for_again() -> None:
    assert faults("keep") < 100  # of 40,960 pages of 4 KiB that ten turns write to


@pytest.mark.parametrize("name", CHOSEN_BY_USERS)
def test_what_users_choose_stays(name: str) -> None:
    assert not keep_freed_memory({name: "1"})
