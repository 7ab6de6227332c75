"""`dfqonnx runs`: what is kept of runs, and cleaning it away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dfqonnx.checkpoint.cache_folder import CacheFolder, Kept
from dfqonnx.checkpoint.stages import RunProgress
from dfqonnx.core.staging import remove
from dfqonnx.errors import UsageError

SHORT = 10  # letters of a key that are shown


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run that can go on, or images that serve others."""

    key: str  # the first letters, enough to name it
    kind: str  # `run`, `images` or `widths`
    model: str  # of a run, as the next two; else empty
    bits: str
    target: str
    reached: str  # in words
    age_seconds: float  # since it was last used
    bytes: int
    at_work: bool  # whether a living process holds it


def list_runs(*, keys: Sequence[str] = (), older_than: float = 0.0) -> list[KeptRun]:
    """Return what is kept, the latest first: all, or what some keys begin with, of some age.

    Raises:
        UsageError: nothing is kept under a key.
    """
    folder = CacheFolder.find()
    return [_describe(folder, kept) for kept in _select(folder, keys, older_than)]


def clean_runs(*, keys: Sequence[str] = (), older_than: float = 0.0) -> list[KeptRun]:
    """Remove what `list_runs` lists, but for what a living process holds; return what is gone.

    Raises:
        UsageError: nothing is kept under a key.
    """
    folder, gone = CacheFolder.find(), []
    for kept in _select(folder, keys, older_than):
        described = _describe(folder, kept)
        if not described.at_work:
            remove(kept.path)
            gone += [] if kept.path.exists() else [described]
    return gone


def _select(folder: CacheFolder, keys: Sequence[str], older_than: float) -> list[Kept]:
    everything = folder.kept()[::-1]
    for key in keys:
        if not any(kept.key.startswith(key) for kept in everything):
            raise UsageError(f"runs {key}: nothing is kept under this key; see `dfqonnx runs`")
    last = time.time() - older_than
    return [
        kept
        for kept in everything
        if kept.used <= last and (not keys or any(kept.key.startswith(key) for key in keys))
    ]


def _describe(folder: CacheFolder, kept: Kept) -> KeptRun:
    progress = RunProgress.read(kept.path) if kept.is_run else None
    known = progress or RunProgress(model="", bits="", target="", recipe="")
    return KeptRun(
        key=kept.key[:SHORT],
        kind=kept.kind,
        model=known.model,
        bits=known.bits,
        target=known.target,
        reached=known.where if kept.is_run else "kept for other runs",
        age_seconds=max(0.0, time.time() - kept.used),
        bytes=kept.bytes,
        at_work=folder.is_at_work(kept),
    )
