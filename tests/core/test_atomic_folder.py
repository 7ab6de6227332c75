"""The output folder is complete or absent."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfqonnx.core.atomic_write import atomic_files, atomic_folder, check_out
from dfqonnx.errors import EnvironmentProblem, UsageError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    report = {"schema": "dfqonnx.report/1", "files": [*names, "report.json"]}
    (folder / "report.json").write_text(json.dumps(report))


def break_off(out: Path, problem: BaseException) -> None:
    with atomic_folder(out) as folder:
        fill(folder, "other.onnx")
        raise problem


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_a_clean_exit_leaves_exactly_what_was_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "net-w4a4"
    with atomic_folder(out) as folder:
        fill(folder, "net.onnx", "synthetic/images.npz")
        assert not out.exists()
    assert tree(tmp_path) == {
        "deep/net-w4a4/net.onnx",
        "deep/net-w4a4/synthetic/images.npz",
        "deep/net-w4a4/report.json",
    }
    assert out.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError, SystemExit])
def test_an_interruption_leaves_nothing(tmp_path: Path, problem: type[BaseException]) -> None:
    with pytest.raises(problem):
        break_off(tmp_path / "out", problem())
    assert tree(tmp_path) == set()


def test_an_interruption_leaves_the_earlier_result_untouched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        fill(folder, "net.onnx")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        break_off(out, KeyboardInterrupt())
    assert tree(tmp_path) == before


def test_a_second_run_replaces_its_own_files_and_keeps_yours(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        fill(folder, "net.w4a4.onnx", "synthetic/a.png")
    (out / "notes.txt").write_text("mine")
    check_out(out)
    with atomic_folder(out) as folder:
        fill(folder, "net.w8a8.onnx", "synthetic/b.png")
    assert tree(out) == {"net.w8a8.onnx", "synthetic/b.png", "report.json", "notes.txt"}


def test_a_report_that_names_files_elsewhere_cannot_delete_them(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    report = {"schema": "dfqonnx.report/1", "files": ["../precious.txt"]}
    (out / "report.json").write_text(json.dumps(report))
    with atomic_folder(out) as folder:
        fill(folder, "net.onnx")
    assert precious.exists()


def test_an_empty_folder_is_welcome(tmp_path: Path) -> None:
    out = tmp_path / "mounted"
    out.mkdir()
    inode = out.stat().st_ino
    check_out(out)
    with atomic_folder(out) as folder:
        fill(folder, "net.onnx")
    assert tree(out) == {"net.onnx", "report.json"}
    assert out.stat().st_ino == inode, "a mounted volume cannot be renamed over"


@pytest.mark.parametrize("content", ["notes.txt", "report.json"])
def test_a_folder_of_someone_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_text('{"schema": "other"}')
    with pytest.raises(UsageError, match=f"did not write \\({content}"):
        check_out(tmp_path)


def test_a_file_or_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="is a file; give the name of a folder"):
        check_out(file)
    with pytest.raises(UsageError, match="is a file, not a folder"):
        check_out(file / "below" / "it")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place nobody can write: /proc")
def test_a_place_that_cannot_be_written_is_the_environments_fault() -> None:
    with pytest.raises(EnvironmentProblem, match="not writable"):
        check_out(Path("/proc/dfqonnx-out"))


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_out(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_the_remains_of_a_killed_run_are_swept_by_the_next(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dfqonnx.core.atomic_write import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", script, str(out)])
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 1
    alive = tmp_path / f".dfqonnx-partial-{os.getpid()}-another"
    alive.mkdir()
    with atomic_folder(out) as folder:
        fill(folder, "net.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"out", alive.name}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_fills_is_told_with_the_name_of_the_folder(
    tmp_path: Path, code: int, named: bool
) -> None:
    """A failed write has no file's name, a failed open that of a hidden folder, gone by then."""

    def fail(folder: Path) -> None:
        path = str(folder / "images.npz") if named else None
        raise OSError(code, os.strerror(code), path)

    with pytest.raises(EnvironmentProblem) as caught, atomic_folder(tmp_path / "out") as folder:
        fail(folder)
    assert str(caught.value).startswith(f"{tmp_path / 'out'}: the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_it_that_cannot_be_written_is_named_without_the_hidden_folder(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(EnvironmentProblem, match=r"^net\.onnx: cannot be written \(Input"),
        atomic_folder(tmp_path / "out") as folder,
        atomic_files(folder / "net.onnx"),
    ):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_other_failures_of_files_keep_their_own_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"), atomic_folder(tmp_path / "out"):
        raise FileNotFoundError(errno.ENOENT, "gone", "/data/x.png")
