"""One file or folder, complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.errors import EnvironmentProblem


def test_a_clean_exit_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    with atomic_file(out) as place:
        place.write_text("whole")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert out.read_text() == "whole"


def break_off(out: Path, error: BaseException) -> None:
    with atomic_file(out) as place:
        place.write_text("half of it")
        raise error


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("no"), ValueError),
        (OSError(28, "No space left on device"), EnvironmentProblem),
    ],
)
def test_whatever_happens_the_former_file_stays(
    tmp_path: Path, error: BaseException, seen: type[BaseException]
) -> None:
    out = tmp_path / "page.html"
    out.write_text("former")
    with pytest.raises(seen):
        break_off(out, error)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert out.read_text() == "former"


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    with pytest.raises(EnvironmentProblem) as seen, atomic_file(out):
        raise OSError(28, "No space left on device")
    assert str(out) in str(seen.value)
    assert "No space left on device" in str(seen.value)


def test_a_place_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(EnvironmentProblem, match="cannot be written"),
        atomic_file(tmp_path / "notes.txt" / "page.html"),
    ):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_replaced_and_a_full_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with atomic_file(tmp_path / "images") as place:
        place.mkdir()
        (place / "a.png").touch()
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.png"]
    with pytest.raises(EnvironmentProblem), atomic_file(tmp_path / "images") as place:
        place.mkdir()
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.png"]
