"""A sweep of twelve small tasks, and a store that speaks S3 on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests.cli.conftest import dfqonnx as dfqonnx
from tests.cli.conftest import small as small
from tests.cli.networks import balanced_classifier

ROOT = Path(__file__).parents[2]
TWELVE = """
models: [one.onnx, two.onnx]
bits: [w8a8, w4a8]
recipes: [ptq]
seeds: [0, 1, 2]
resources: {cores: 1, memory: 1GiB}
"""
BUCKET = "sweeps"
LIMIT = 500.0  # seconds; about 60 on two idle cores


@pytest.fixture
def twelve(tmp_path: Path) -> Path:
    for number, name in enumerate(("one", "two"), 1):
        balanced_classifier(tmp_path / f"{name}.onnx", width=8 * number)
    file = tmp_path / "twelve.yaml"
    file.write_text(TWELVE, encoding="utf-8")
    return file


def start(folder: Path, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    """Start `dfqonnx sweep` as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "dfqonnx", "sweep", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not so in a background
    )


def workers_at_work(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that Ray named after a task."""
    found = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::") and "-ptq-s" in title:
            found.append(process)
    return found


def kill_a_worker(sweep: subprocess.Popen[str]) -> str:
    """Kill a worker at work; the name of its task."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        for process in workers_at_work(sweep):
            title = " ".join(process.cmdline())
            time.sleep(0.2)  # it has told that it began by now
            if process.is_running() and " ".join(process.cmdline()) == title:
                process.send_signal(signal.SIGKILL)
                return title.removeprefix("ray::").split()[0]
        time.sleep(0.02)
    raise AssertionError("no worker was at work")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty bucket in moto's server."""
    for package in ("moto", "flask", "s3fs"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'moto[s3]' flask flask-cors s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "moto.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing-key",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        for _ in range(240):
            with suppress(OSError), urlopen(address):
                break
            time.sleep(0.25)
        import boto3
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()  # of another test's server
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    finally:
        server.kill()
        server.wait()
        log.close()
