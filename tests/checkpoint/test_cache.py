"""The cache between runs: what it saves, its limit, and that no trouble with it stops a run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dfqonnx.checkpoint import cache_folder, entry_file
from dfqonnx.checkpoint.cache import Cache, CacheUse
from dfqonnx.checkpoint.cache_folder import LIMIT, CacheFolder, read_bytes
from dfqonnx.config.search_limits import SearchLimits, SizeLimit
from dfqonnx.core.stage_keeper import Entry
from dfqonnx.errors import UsageError
from dfqonnx.workflows import choose_widths
from tests.checkpoint.runs import PLAIN, Interrupted, Interrupting, Quantize, uninterrupted

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""
MADE = "are those that an earlier run kept"


def told(progress: Interrupting, text: str) -> int:
    return sum(text in line for line in progress.told)


@pytest.mark.parametrize(
    ("more", "serves"),
    [
        ({"bits": "w8a8"}, True),
        ({"target": "openvino", "bits": "w8a8"}, True),
        ({"recipe": PLAIN.replace("steps: 12", "steps: 2")}, True),
        ({"seed": 1}, False),
        ({"recipe": PLAIN.replace("images: 48", "images: 40")}, False),
        ({"use": CacheUse(fresh=True)}, False),
    ],
)
def test_images_serve_other_bits_targets_and_recipes_that_ask_for_the_same(
    quantize: Quantize, more: dict[str, object], serves: bool
) -> None:
    again = Interrupting("initialize")
    for progress in (Interrupting("initialize"), again):
        with pytest.raises(Interrupted):
            quantize(**{"recipe": PLAIN, **(more if progress is again else {})}, progress=progress)
    assert told(again, MADE) == int(serves)


def test_a_damaged_entry_is_told_and_made_anew(quantize: Quantize) -> None:
    whole = uninterrupted(quantize, PLAIN)
    with pytest.raises(Interrupted):
        quantize(PLAIN, Interrupting("distill", 5))
    folder = CacheFolder.find()
    for kept in folder.kept():
        for file in [kept.path] if kept.path.is_file() else kept.path.glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-7])
        if kept.is_run:
            (kept.path / "run.json").write_text('{"model": [')
    again = Interrupting()
    assert quantize(PLAIN, again) == whole
    assert told(again, "what was kept is damaged") == 3  # images, initialized, in training
    assert not told(again, "Traceback")


def test_a_state_of_another_training_is_refused_whole(quantize: Quantize) -> None:
    whole = uninterrupted(quantize, PLAIN)
    with pytest.raises(Interrupted):
        quantize(PLAIN, Interrupting("distill", 5))
    (run,) = [kept.path for kept in CacheFolder.find().kept() if kept.is_run]
    (state,) = run.glob("distill-*")
    metadata_key = f"{run.name}/distill/"
    with entry_file.safe_open(state, framework="np") as file:
        key = file.metadata()["key"]
    assert key.startswith(metadata_key)
    found = entry_file.read_entry(state, key)
    arrays = dict(found.arrays)
    last = max(name for name in arrays if ".parameter." in name)
    arrays[last] = np.zeros(99, np.float32)  # the others are set before it is seen
    entry_file.write_entry(state, key, Entry(arrays, found.facts))
    again = Interrupting()
    assert quantize(PLAIN, again) == whole
    assert told(again, "it is no state of this training") == 1
    assert again.begins("distill")[0] == 0


def test_a_cache_that_cannot_be_written_is_told_in_a_line(
    quantize: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DFQONNX_CACHE", str(tmp_path / "file" / "cache"))
    progress = Interrupting()
    assert quantize(PLAIN, progress)
    assert told(progress, "cannot be written") == 1
    assert told(progress, "cache") == 1


def test_a_read_only_cache_still_gives_what_it_holds(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        quantize(PLAIN, Interrupting("initialize"))

    def refuse(self: CacheFolder) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(CacheFolder, "prepare", refuse)
    progress = Interrupting("distill")
    with pytest.raises(Interrupted):
        quantize(PLAIN, progress, bits="w8a8")
    assert told(progress, MADE) == 1
    assert told(progress, "(Read-only file system): nothing is kept") == 1


def test_a_disk_that_fills_is_told_in_a_line(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(entry_file, "save_file", fill)
    progress = Interrupting()
    assert quantize(PLAIN, progress)
    assert told(progress, "cannot be written (No space left on device)") == 1
    assert CacheFolder.find().kept() == []


def test_room_is_left_on_the_disk_for_the_run_itself(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "SPARE", 2**60)
    progress = Interrupting("initialize")
    with pytest.raises(Interrupted):
        quantize(PLAIN, progress)
    assert told(progress, "has no room for") == 1


def test_a_folder_that_everybody_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("DFQONNX_CACHE", str(shared))
    lines: list[str] = []
    assert not Cache(CacheUse(), lines.append).writable
    assert len(lines) == 1
    assert "everybody may write to it" in lines[0]


def test_what_was_not_used_for_longest_leaves_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFQONNX_CACHE_LIMIT", "10kB")
    lines: list[str] = []
    cache = Cache(CacheUse(), lines.append)
    assert cache.folder is not None
    entry, now = Entry({"x": np.zeros(2500, np.uint8)}), time.time()
    for age, name in enumerate("abc"):
        path = cache.folder.images(name)
        assert cache.keep(path, name, entry)
        os.utime(path, (now - 90 + age, now - 90 + age))
    assert cache.find(cache.folder.images("a"), "a", lambda found: found) is not None
    assert cache.keep(cache.folder.images("d"), "d", entry)
    assert {kept.key for kept in cache.folder.kept()} == {"a", "c", "d"}  # b: longest ago
    assert not cache.keep(cache.folder.images("e"), "e", Entry({"x": np.zeros(10_001, np.uint8)}))
    assert {kept.key for kept in cache.folder.kept()} == {"a", "c", "d"}
    assert cache.folder.path.stat().st_mode & 0o777 == 0o700
    assert len(lines) == 1


def test_two_runs_of_the_same_at_once_are_both_right(quantize: Quantize) -> None:
    whole = uninterrupted(quantize, PLAIN)
    with pytest.raises(Interrupted):
        quantize(PLAIN, Interrupting("distill", 5))
    folder = CacheFolder.find()
    (run,) = [kept for kept in folder.kept() if kept.is_run]
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.lock(run.key))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert folder.is_at_work(run)
        progress = Interrupting()
        assert quantize(PLAIN, progress) == whole
        assert told(progress, "The same run is at work in another process") == 1
        assert not told(progress, "Continuing")
        other.communicate(b"\n")
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_who_needs_images_that_another_run_makes_waits_for_them(tmp_path: Path) -> None:
    lines: list[str] = []
    cache = Cache(CacheUse(), lines.append)
    assert cache.folder is not None
    path = cache.folder.images("key")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache.folder.lock("key"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with cache.making(path, "key", waits=False):  # within a budget nobody waits
            assert other.poll() is None
        assert lines == []
        threading.Timer(0.2, other.stdin.close).start()
        with cache.making(path, "key", waits=True):
            other.wait(10)  # it has released the key, and ends
        assert lines == [
            "Another run makes the same images; waiting for them (--no-cache does not)."
        ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("", LIMIT), ("5GB", 5 * 10**9), ("500 MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("7", 7)],
)
def test_limits_are_read(text: str, size: int) -> None:
    assert read_bytes(text) == size


def test_a_limit_that_cannot_be_read_is_a_mistake_of_the_user() -> None:
    with pytest.raises(UsageError, match="DFQONNX_CACHE_LIMIT=many: cannot be read"):
        CacheFolder.find({"DFQONNX_CACHE_LIMIT": "many"})


LIMITS = SearchLimits(max_size=SizeLimit("1x", ratio=1.0))


def test_widths_that_a_search_chose_serve_the_run_that_goes_on(
    quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[int] = []
    choose = choose_widths._Search.run

    def count(self: choose_widths._Search, *given: object) -> object:
        searches.append(1)
        return choose(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(choose_widths._Search, "run", count)
    first, again = Interrupting("distill", 5), Interrupting()
    with pytest.raises(Interrupted):
        quantize(PLAIN, first, limits=LIMITS)
    quantize(PLAIN, again, limits=LIMITS)
    assert len(searches) == 1
    assert again.begins("distill")[0] == 4
    chosen = [line for line in first.told if "Continuing" not in line]
    assert chosen[0] == again.told[0]  # what was chosen is told again
