"""`dfqonnx sweep` without Ray, and commands whose files are behind URLs."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

import onnx
import pytest

from dfqonnx.jobs import ray_cluster
from dfqonnx.storage.object_store import open_store
from dfqonnx.storage.transfer import fetch_result, is_complete
from dfqonnx.workflows import sweep as workflow
from tests.cli.conftest import Run

ODD = """<ir_version: 8, opset_import: ["": 17]>
odd (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Sin(x) }"""
TWO = """
models: [small.onnx, odd.onnx]
recipes: [ptq]
settings: {gates: ["size<=100x"]}
"""


@pytest.fixture
def two(tmp_path: Path, small: Path) -> Path:
    """A sweep of one model that works and one without anything to quantize."""
    onnx.save(onnx.parser.parse_model(ODD), tmp_path / "odd.onnx")
    file = tmp_path / "two.yaml"
    file.write_text(TWO, encoding="utf-8")
    return file


def test_a_task_that_fails_stops_no_other_and_complete_ones_are_not_run_again(
    dfqonnx: Run, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = dfqonnx("sweep", two, "--engine", "local")
    assert done.code == 1, done.err
    assert "1 complete, 1 unsupported" in done.out
    out = tmp_path / "two-sweep"
    content = json.loads((out / "sweep.json").read_text())
    statuses = {each["model"]: each for each in content["rows"]}
    assert statuses["small"]["status"] == "complete"
    assert "nothing to quantize" in statuses["odd"]["reason"]
    assert (Path(statuses["small"]["folder"]) / "small.w8a8.onnx").is_file()
    assert {p.name for p in out.iterdir()} >= {"sweep.html", "sweep.md", "junit.xml", "sweep.yaml"}
    begun = []
    whole = workflow.run_task
    monkeypatch.setattr(
        workflow, "run_task", lambda p, tell: begun.append(p.task.model_name) or whole(p, tell)
    )
    again = dfqonnx("sweep", two, "--engine", "local", "--since", out)
    assert begun == ["odd"], "what is complete is left alone, what failed is tried again"
    assert again.code == 1
    assert "Nothing got worse since" in again.out


def test_another_model_or_setting_runs_a_task_again(
    dfqonnx: Run, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def pretend(payload: object, tell: object) -> object:
        begun.append(payload.task.model_name)  # type: ignore[attr-defined]
        folder = Path(payload.folder)  # type: ignore[attr-defined]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text("{}")
        return workflow.unfinished_row(payload, "complete", "")  # type: ignore[arg-type]

    monkeypatch.setattr(workflow, "run_task", pretend)
    for change, expected in (
        (lambda: None, ["small", "odd"]),
        (lambda: None, []),
        (lambda: shutil.copy(tmp_path / "small.onnx", tmp_path / "odd.onnx"), ["odd"]),
        (lambda: two.write_text(TWO.replace("100x", "99x")), ["small", "odd"]),
        (lambda: shutil.rmtree(tmp_path / "two-sweep/tasks/odd-w8a8-onnxruntime-cpu-ptq-s0"),
         ["odd"]),
    ):  # fmt: skip
        change()
        begun.clear()
        assert dfqonnx("sweep", two, "--engine", "local").code == 0
        assert begun == expected
    assert dfqonnx("sweep", two, "--engine", "local", "--fresh").code == 0
    assert begun == ["odd", "small", "odd"]


def test_a_dry_run_lists_the_tasks_and_what_no_target_takes(dfqonnx: Run, two: Path) -> None:
    two.write_text(
        "models: [small.onnx]\nbits: [w8a8, w4a4]\ntargets: [onnxruntime-qnn]\n"
        "resources: {cores: 2, memory: 3GiB, gpu: 0.5}\n"
    )
    done = dfqonnx("sweep", two, "--dry-run", "--json")
    assert done.code == 0, done.err
    listed = json.loads(done.out)
    assert [each["bits"] for each in listed] == ["w8a8", "w4a4"]
    assert listed[0]["resources"] == {"cores": 2.0, "memory_bytes": 3 * 2**30, "gpus": 0.5}
    assert listed[0]["refused"] is None
    assert "activations of 4 bits" in listed[1]["refused"]
    assert not (two.parent / "two-sweep").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--out", "theirs"], 2, "holds files that no sweep wrote (a.txt, ...)"),
        (["--out", "small.onnx"], 2, "is a file"),
        (["--since", "nowhere"], 2, "--since"),
        (["--engine", "ray"], 4, "pip install 'dfqonnx[ray]'"),
        (["--address", "127.0.0.1:1"], 4, "pip install 'dfqonnx[ray]'"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    dfqonnx: Run, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: list[str], code: int, words: str,
) -> None:  # fmt: skip
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.txt").touch()
    monkeypatch.setattr(workflow, "has_ray", lambda: False)
    done = dfqonnx("sweep", two, *options)
    assert done.code == code
    assert words in done.err
    assert not (tmp_path / "two-sweep" / "tasks").exists()


def test_without_ray_a_line_says_so(
    dfqonnx: Run, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "has_ray", lambda: False)
    two.write_text("models: [none.onnx]\nrecipes: [ptq]\n")
    done = dfqonnx("sweep", two)
    assert done.code == 1
    assert ray_cluster.NO_RAY in done.err
    assert "no such file" in done.out


def test_a_run_and_a_validation_take_urls_and_publish_completely(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec")
    base = f"memory://bucket-{secrets.token_hex(4)}"
    open_store(base).upload(small, "nets/small.onnx")
    model, out = f"{base}/nets/small.onnx", f"{base}/out/w8"
    done = dfqonnx("run", "--model", model, "--bits", "8", "--recipe", "ptq", "--out", out)
    assert done.code == 0, done.err
    assert f"{out}/small.w8a8.onnx" in done.out
    assert is_complete(out)
    report = json.loads(open_store(out).read("report.json") or b"")
    assert report["teacher"]["path"] == model
    assert model in report["command"]
    place = tmp_path / "fetched"
    place.mkdir()
    fetch_result(out, place)
    assert str(tmp_path) not in (place / "report.json").read_text()
    assert ".dfqonnx-partial" not in (place / "report.html").read_text()
    onnx.checker.check_model(onnx.load(place / "small.w8a8.onnx"))
    checked = dfqonnx("validate", model, f"{out}/small.w8a8.onnx", "--out", f"{base}/proof")
    assert checked.code == 0, checked.err
    assert is_complete(f"{base}/proof")
    missing = dfqonnx("run", "--model", f"{base}/nets/none.onnx", "--out", out)
    assert missing.code == 2
    assert "nothing is there" in missing.err
    foreign = dfqonnx("run", "--model", model, "--out", f"{base}/nets")
    assert foreign.code == 2
    assert "dfqonnx did not write" in foreign.err
