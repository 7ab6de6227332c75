"""The stages of one run, kept as they are made, and how far an interrupted run came.

    images -> initialize -> distill, every minute at least -> trained

A stage's result is kept for the images that it was made with, and found for the same only. When
the run is complete, its folder goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self, TypeVar

from dfqonnx.checkpoint.cache import Cache, Tell
from dfqonnx.checkpoint.cache_folder import FACTS
from dfqonnx.checkpoint.entry_file import OWN_ALONE, SUFFIX
from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.core.progress import Progress
from dfqonnx.core.run_outline import describe_seconds
from dfqonnx.core.stage_keeper import (
    DISTILL,
    ORDER,
    SYNTHESIZE,
    TRAINED,
    Entry,
    StageKeeper,
)
from dfqonnx.core.staging import remove
from dfqonnx.errors import DfqError, EnvironmentProblem

Value = TypeVar("Value")
MOST_SECONDS, LEAST_SECONDS = 60.0, 5.0  # between two states of a training that are kept
SHARE = 0.02  # of the time that keeping them may take, where that is more often


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """What a kept run is, and how far it came."""

    model: str
    bits: str
    target: str
    recipe: str
    stage: str = ""  # the last that something is kept of; empty before any
    step: int = 0  # of `steps`, where the stage has some
    steps: int = 0
    saved: float = 0.0  # seconds since the epoch
    spent: float = 0.0  # seconds of work in all processes

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return what the folder of a run says; None where that cannot be read."""
        try:
            content = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            known = {each.name: each.default for each in fields(cls)}
            found = {name: content[name] for name in known if name in content}
            progress = cls(**found)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = (progress.model, progress.bits, progress.target, progress.recipe, progress.stage)
        numbers = (progress.step, progress.steps, progress.saved, progress.spent)
        if not all(isinstance(text, str) for text in texts):
            return None
        if not all(isinstance(number, (int, float)) and 0 <= number < 1e12 for number in numbers):
            return None
        return progress if progress.stage in {"", *ORDER} else None

    @property
    def where(self) -> str:
        """How far it came, in words."""
        if self.stage == DISTILL:
            return f"at step {self.step:,} of {self.steps:,} of distill"
        return f"after {'distill' if self.stage == TRAINED else self.stage or 'its beginning'}"

    def left(self) -> dict[str, float]:
        """Return the share of every stage that is left to be done."""
        reached = ORDER.index(self.stage) if self.stage else -1
        shares = {stage: 0.0 for number, stage in enumerate(ORDER) if number <= reached}
        if self.stage == DISTILL:
            shares[DISTILL] = 1.0 - self.step / max(1, self.steps)
        return shares


class RunWork(StageKeeper):
    """The kept work of one run, made with images whose hash is `images`."""

    def __init__(self, cache: Cache, key: str, progress: RunProgress) -> None:
        self._cache, self._key, self.progress = cache, key, progress
        self._images, self._is_kept = "", False
        self._began = time.perf_counter()
        self._spent_before = 0.0
        self._last, self._cost = self._began, 0.0
        self.continues = False  # whether an interrupted run goes on

    @property
    def _folder(self) -> Path | None:
        folder = self._cache.folder
        return None if folder is None else folder.run(self._key)

    @contextmanager
    def opened(self, tell: Tell) -> Iterator[None]:
        """Hold the work while the run lives, and find out how far it came before."""
        with self._cache.alone(self._key, seconds=0.0) as self._is_kept:
            if not self._is_kept:
                tell("The same run is at work in another process; this one keeps nothing.")
            self._read()
            yield

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add to what interrupts the run how it can go on."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, EnvironmentProblem, OSError, MemoryError) as error:
            rest = self.describe_rest()
            if rest:
                error.add_note(rest)
            raise

    def _read(self) -> None:
        folder = self._folder
        if folder is None or not self._is_kept:
            return
        if self._cache.is_fresh:
            remove(folder)
        found = RunProgress.read(folder)
        if found is not None and found.stage and found.model:
            self._spent_before, self.continues = found.spent, True
            self.progress = replace(
                self.progress, stage=found.stage, step=found.step, steps=found.steps,
                saved=found.saved, spent=found.spent,
            )  # fmt: skip

    @property
    def spent(self) -> float:
        """The seconds of work that earlier processes did."""
        return self._spent_before

    def describe_start(self) -> str:
        """Return the line that an interrupted run goes on with; empty for a new one."""
        if not self.continues:
            return ""
        ago = describe_seconds(max(1.0, time.time() - self.progress.saved))
        return (
            f"Continuing a run that stopped {ago} ago {self.progress.where} (--fresh starts anew)."
        )

    def describe_rest(self) -> str:
        """Return how the run can go on; empty where nothing of it is kept."""
        folder = self._folder
        if folder is None or not self._is_kept or not (folder / FACTS).is_file():
            return ""
        return f"the same command continues {self.progress.where}"

    def use_images(self, images: str) -> None:
        """Keep and find stages that were made with these images from now on."""
        self._images = images
        self.note(SYNTHESIZE)

    def find(self, stage: str, build: Callable[[Entry], Value]) -> Value | None:
        """Return what `build` makes of a stage's kept result; None where there is none."""
        if not self._is_kept or self._folder is None:
            return None
        return self._cache.find(self._place(self._folder, stage), self._stage_key(stage), build)

    def keep(self, stage: str, entry: Entry, *, step: int = 0, steps: int = 0) -> None:
        """Keep the result of a stage."""
        folder, began = self._folder, time.perf_counter()
        if not self._is_kept or folder is None:
            return
        kept = self._cache.keep(self._place(folder, stage), self._stage_key(stage), entry)
        if kept and stage in ORDER:
            self.note(stage, step=step, steps=steps)
        self._last = time.perf_counter()
        self._cost = self._last - began

    def is_due(self) -> bool:
        """Return whether the state of a training is to be kept again: every minute at least."""
        if not (self._is_kept and self._cache.writable):
            return False
        wait = min(MOST_SECONDS, max(LEAST_SECONDS, self._cost / SHARE))
        return time.perf_counter() - self._last >= wait

    def note(self, stage: str, *, step: int = 0, steps: int = 0) -> None:
        """Write down how far the run came, where that is further than it was."""
        folder, progress = self._folder, self.progress
        if folder is None or not (self._is_kept and self._cache.writable):
            return
        reached = ORDER.index(progress.stage) if progress.stage else -1
        if self.continues and ORDER.index(stage) < reached:
            return  # it is on the way to where it was
        spent = self._spent_before + time.perf_counter() - self._began
        self.progress = replace(
            progress, stage=stage, step=step, steps=steps, saved=time.time(), spent=spent
        )
        with suppress(OSError, DfqError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_file(folder / FACTS) as place:
                place.write_text(json.dumps(asdict(self.progress)), encoding="utf-8")
                place.chmod(OWN_ALONE)

    def finish(self) -> None:
        """Remove what is kept of the run: it is complete."""
        if self._is_kept and self._folder is not None:
            remove(self._folder)

    def _place(self, folder: Path, stage: str) -> Path:
        return folder / f"{stage}-{self._images[:16] or 'none'}{SUFFIX}"

    def _stage_key(self, stage: str) -> str:
        return f"{self._key}/{stage}/{self._images}"


@contextmanager
def hold(works: Sequence[RunWork], shown: Progress) -> Iterator[None]:
    """Hold the work of a run for each of its targets, and tell what goes on where it was."""
    with ExitStack() as stack:
        for work in works:
            stack.enter_context(work.opened(shown.warn))
        begun = [work for work in works if work.continues]
        if begun:
            last = max(begun, key=lambda work: work.progress.saved)
            shown.note(last.describe_start())
        yield
