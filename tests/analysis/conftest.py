"""The small student that the rooms around quantization share."""

from __future__ import annotations

from tests.fakequant.conftest import images, one_thread, tiny

__all__ = ["images", "one_thread", "tiny"]
