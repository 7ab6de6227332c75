"""A final name holds a complete file or nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.export.writer import write
from tests.export.ortrun import run
from tests.export.qnets import chain, export_net


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing_behind(
    where: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = export_net(chain().proto(), tmp_path).ir
    out = tmp_path / "out"
    out.mkdir()

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EnvironmentProblem, match=r"disk is full.*free space"):
        write(model, out / "model.onnx")
    assert listing(out) == set()


def test_a_failure_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = export_net(chain().proto(), tmp_path).ir
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem):
        write(model, out / "model.onnx")
    assert (out / "model.onnx").read_bytes() == b"old"
    assert listing(out) == {"model.onnx"}


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = export_net(chain().proto(), tmp_path).ir
    out = tmp_path / "out"
    out.mkdir()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(model, out / "model.onnx")
    assert listing(out) == set()


def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    source = export_net(chain().proto(), tmp_path).path
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import onnx_ir as ir\n"
        "from dfqonnx.export.writer import write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(ir.load(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    target = out / "model.onnx"
    done = subprocess.run([sys.executable, "-c", script, str(source), str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(listing(out)) == 1, "the draft was being written when the process died"


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.EACCES, EnvironmentProblem, "not allowed to write"),
        (errno.EROFS, EnvironmentProblem, "not allowed to write"),
        (errno.EISDIR, UsageError, "is a folder"),
        (errno.EIO, EnvironmentProblem, "cannot be written"),
    ],
)
def test_other_failures_say_what_to_do(
    code: int,
    error: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = export_net(chain().proto(), tmp_path).ir

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error, match=words):
        write(model, tmp_path / "model.onnx")


def test_a_missing_folder_is_made_and_a_folder_in_the_way_is_a_usage_error(tmp_path: Path) -> None:
    model = export_net(chain().proto(), tmp_path).ir
    write(model, tmp_path / "new" / "model.onnx")
    assert listing(tmp_path / "new") == {"model.onnx"}
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write(model, tmp_path / "taken")


def test_a_model_beyond_the_limit_keeps_its_tensors_beside_it(tmp_path: Path) -> None:
    net = chain()
    found = export_net(net.proto(), tmp_path)
    big = tmp_path / "big"
    big.mkdir()
    size = write(found.ir, big / "model.onnx", limit=100)
    assert listing(big) == {"model.onnx", "model.onnx.data"} or listing(big) == {"model.onnx"}
    assert size == sum(path.stat().st_size for path in big.iterdir())
    onnx.checker.check_model(str(big / "model.onnx"), full_check=True)
    np.testing.assert_array_equal(
        run(big / "model.onnx", found.x, optimize=True), run(found.path, found.x, optimize=True)
    )
