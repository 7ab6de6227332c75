"""Kept files: what is written comes back, and anything else is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dfqonnx.checkpoint.entry_file import read_entry, write_entry
from dfqonnx.checkpoint.keys import digest
from dfqonnx.core.stage_keeper import DamagedEntry, Entry
from dfqonnx.errors import InternalError

ENTRY = Entry(
    {
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 2), np.float32),
        "turned": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        "bytes": np.frombuffer(bytes(range(256)), np.uint8),
    },
    {"name": "ä", "list": [1, 2.5, None, True], "nan": float("inf")},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "entry.safetensors"
    write_entry(found, "key", ENTRY)
    return found


def test_what_is_written_comes_back(path: Path) -> None:
    found, theirs = read_entry(path, "key"), load_file(path)
    assert found.facts == ENTRY.facts
    assert found.arrays.keys() == ENTRY.arrays.keys() == theirs.keys()
    for name, array in ENTRY.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        np.testing.assert_array_equal(theirs[name], array)
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape


def test_only_the_owner_can_read_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_any_byte_that_is_changed_or_missing_is_noticed(path: Path) -> None:
    data, damaged = path.read_bytes(), path.with_name("damaged.safetensors")
    for place in range(0, len(data), 3):
        for content in (data[:place], data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]):
            damaged.write_bytes(content)
            with pytest.raises(DamagedEntry):
                read_entry(damaged, "key")


def test_what_is_anothers_or_no_file_is_noticed(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DamagedEntry, match="belongs to something else"):
        read_entry(path, "other")
    plain = tmp_path / "plain.safetensors"
    save_file({"x": np.zeros(2)}, plain)
    with pytest.raises(DamagedEntry):
        read_entry(plain, "key")
    with pytest.raises(DamagedEntry, match="no plain file"):
        read_entry(tmp_path, "key")
    with pytest.raises(FileNotFoundError):
        read_entry(tmp_path / "none", "key")


def test_keys_depend_on_values_and_on_nothing_else() -> None:
    x = np.arange(6, dtype=np.float32)
    same = digest(a=1, b={"x": x, "y": 2.0}) == digest(b={"y": 2.0, "x": x.copy()}, a=1)
    assert same
    others = [
        digest(a=1.0), digest(a=True), digest(a="1"), digest(a=None), digest(a=(1,)), digest(b=1),
        digest(a=x), digest(a=x.reshape(2, 3)), digest(a=x.astype(np.float64)), digest(a=Path("1")),
        digest(a=Entry()), digest(a={"1": 1}), digest(a={1: 1}),
    ]  # fmt: skip
    assert len({digest(a=1), *others}) == 1 + len(others)
    with pytest.raises(InternalError, match="no place in a key"):
        digest(a=object())
