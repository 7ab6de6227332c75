"""Images at once: small ones as many as asked for, large ones one by one."""

from __future__ import annotations

import pytest

from dfqonnx.runtime.session import MEMORY, images_together


@pytest.mark.parametrize(
    ("shape", "together"),
    [
        ((3, 32, 32), 64),
        ((900, 120), 9),  # 256 MiB over 900 x 120 x 64 numbers of 4 bytes: 9.7
        ((3, 224, 224), 6),  # over 38.5 MB: 6.97
        ((3, 720, 720), 1),
        ((), 64),
    ],
)
def test_as_many_as_memory_holds(shape: tuple[int, ...], together: int) -> None:
    assert images_together(shape) == together


def test_a_caller_may_want_fewer_and_never_gets_none() -> None:
    assert images_together((3, 32, 32), 8) == 8
    assert images_together((MEMORY,), 8) == 1
