"""Models from S3, results to S3: complete or absent there, and found again by the next sweep."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import onnx
import pytest

from dfqonnx.storage.object_store import open_store
from dfqonnx.storage.transfer import MANIFEST, fetch_result, is_complete
from dfqonnx.workflows.sweep import read_earlier
from tests.cli.conftest import Run
from tests.jobs.conftest import LIMIT, TWELVE, kill_a_worker, start

pytestmark = pytest.mark.slow


def upload_all(folder: Path, url: str) -> None:
    for name in ("one.onnx", "two.onnx"):
        open_store(f"{url}/nets").upload(folder / name, name)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_sweep_through_s3_with_a_killed_worker_ends_complete(
    twelve: Path, tmp_path: Path, s3: str
) -> None:
    upload_all(tmp_path, s3)
    text = TWELVE.replace("[one.onnx, two.onnx]", f"['{s3}/nets/*.onnx']")
    twelve.write_text(text, encoding="utf-8")
    out = f"{s3}/sweeps/first"
    sweep = start(tmp_path, twelve, "--out", out, "--cores", "2")
    end = time.monotonic() + LIMIT
    while sum(n.endswith("-s0.json") for n in open_store(out).list_names()) < 2:
        assert time.monotonic() < end
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.1)  # workers have loaded what they need, and tell when they begin
    killed = kill_a_worker(sweep)
    shown, told = sweep.communicate(timeout=LIMIT)
    assert sweep.returncode == 0, told
    assert "12 complete" in shown
    assert "testing-secret" not in shown + told
    rows = {row.task: row for row in read_earlier(out)}
    assert rows[killed].attempts == 2
    for row in rows.values():
        assert row.model_location.startswith(f"{s3}/nets/")
        assert is_complete(row.folder)
    place = tmp_path / "fetched"
    place.mkdir()
    fetch_result(rows[killed].folder, place)
    (file,) = place.glob("*.onnx")
    onnx.checker.check_model(onnx.load(file))
    report = json.loads((place / "report.json").read_text())
    assert report["teacher"]["path"] == rows[killed].model_location
    names = open_store(out).list_names()
    assert {"sweep.html", "sweep.json", "sweep.parquet", "junit.xml"} <= set(names)
    assert [name for name in names if ".dfqonnx-partial" in name] == []
    again = start(tmp_path, twelve, "--out", out, "--since", out, "--cores", "1")
    shown, told = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, told
    assert "12 of 12 tasks are complete already" in told
    assert "Nothing got worse" in shown


def test_a_run_from_s3_to_s3_takes_the_weights_beside_a_model(
    dfqonnx: Run, small: Path, tmp_path: Path, s3: str
) -> None:
    model = onnx.load(small)
    onnx.save(
        model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin",
        size_threshold=0,
    )  # fmt: skip
    store = open_store(f"{s3}/nets")
    for name in ("net.onnx", "net.bin"):
        store.upload(tmp_path / name, name)
    out = f"{s3}/results/net"
    done = dfqonnx("run", f"{s3}/nets/net.onnx", "--bits", "8", "--recipe", "ptq", "--out", out)
    assert done.code == 0, done.err
    assert is_complete(out)
    first = open_store(out).read(MANIFEST)
    names = open_store(out).list_names()
    assert {"net.w8a8.onnx", "report.json", MANIFEST} <= set(names)
    again = dfqonnx("run", f"{s3}/nets/net.onnx", "--bits", "w4a8", "--recipe", "ptq", "--out", out)
    assert again.code == 0, again.err
    assert open_store(out).read(MANIFEST) != first
    names = open_store(out).list_names()
    assert "net.w4a8.onnx" in names
    assert "net.w8a8.onnx" not in names
    store.remove(["net.bin"])
    missing = dfqonnx("run", f"{s3}/nets/net.onnx", "--out", out)
    assert missing.code == 2
    assert "its file 'net.bin' is not there" in missing.err


def test_wrong_credentials_and_buckets_are_sentences(
    dfqonnx: Run, small: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = dfqonnx("run", small, "--out", "s3://no-such-bucket-here/x")
    assert done.code in {2, 4}
    assert "s3://no-such-bucket-here/x" in done.err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # a process of its own would have none
    done = dfqonnx("run", small, "--out", f"{s3}/x-other")
    assert done.code == 4
    assert "testing-secret" not in done.err
