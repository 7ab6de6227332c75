"""A report with everything in it, hostile names included, and a browser where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfqonnx.core import layer_analysis as p
from dfqonnx.evaluation.outputs import Classes
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.report import report as m
from dfqonnx.report import sections as s
from dfqonnx.report.files import write_images, write_report
from dfqonnx.runtime.kernel_audit import Audit, FloatKernel
from dfqonnx.runtime.latency import Latency

EVIL = "<img src=x onerror=\"document.title='owned'\">'\"&$x^2$"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def occupancy(bits: int, signed: bool, scale: float = 0.1) -> p.CodeOccupancy:
    """Something bell-shaped over a grid of 2^bits levels."""
    lo = -(2 ** (bits - 1)) if signed else 0
    width = 2.0**bits / 64
    counts = tuple(int(1000 * np.exp(-(((k - 40) / 12) ** 2))) for k in range(80))
    histogram = p.Histogram(lo - 0.5 - 8 * width, width, counts, 1, 2)
    return p.CodeOccupancy(lo, lo + 2**bits - 1, scale, 0.01, histogram)


def full_report(layers: int = 4) -> m.Report:
    """Every section is there; one node bears a name that tries to be HTML."""
    names = [EVIL, *(f"conv{k}" for k in range(2, layers + 1))]
    chain = zip(names, [(), *((name,) for name in names)], strict=False)
    return m.Report(
        verdict="inconclusive",
        teacher=m.ModelFacts("net.onnx", "ab" * 32, 400_000, Interval(91.7, 91.1, 92.2, 10_000)),
        student=m.ModelFacts("net.w4a4.onnx", "cd" * 32, 60_000, Interval(91.0, 90.4, 91.6, 10_000)),
        bits=m.Widths(4, 4),
        drop=Drop(Interval(0.7, 0.4, 1.0, 10_000), 0.01, 90, 20),
        agreement=m.AgreementFacts(
            Interval(0.97, 0.95, 0.99, 64), Interval(0.95, 0.94, 0.96, 10_000), 0.02, 21.3
        ),
        parity=m.ParityFacts(1, 3e-5, 1, 2e-5, 0.999, 64),
        audit=Audit({"QLinearConv": 3}, {}, (FloatKernel(EVIL, "Conv", f"because {EVIL}"),), "cpu"),
        latency=Latency(2.0, 1.0, 2.0, 1.9, 2.1, 1, 1),
        seconds={"distill": 10.0, "total": 12.0},
        recipe="default",
        seed=3,
        preprocess={"name": "imagenet", "mean": [0.485, 0.456, 0.406]},
        gates=(m.Gate("drop<=1.0", EVIL, None), m.Gate("size<=0.2x", "0.15", True)),
        warnings=(f"look: {EVIL}",),
        environment={"python": "3.11", "cuda": None},
        command="dfqonnx run --model net.onnx --bits 4",
        training=s.Training(
            100,
            True,
            "",
            Interval(0.9, 0.85, 0.95, 64),
            0.2,
            0.05,
            tuple(s.TrainingLogEntry(25 * k, 2.0 * k, 1.0 / k, 0.9**k) for k in range(1, 5)),
            untrained_top1=Interval(85.5, 84.8, 86.2, 10_000),
        ),
        disagreement=s.disagreement("synthetic", Classes((0, 1, 2) * 4, (0, 1, 1) * 4)),
        class_names=("cat", EVIL, "dog"),
        seen=s.ClassesSeen(tuple(range(12)), (0, 1, 2) * 4, (0, 1, 1) * 4),
        portrait=p.LayerNoise(
            64,
            tuple(
                p.WeightedLayerNoise(name, "Conv", 4, 8, 20.0 - k, 22.0 + k, occupancy(4, True))
                for k, name in enumerate(names)
            ),
            (
                p.ActivationNoise("input", "input", "input", 8, 40.0, occupancy(8, True)),
                p.ActivationNoise(EVIL, EVIL, "node-input", 4, 15.0, occupancy(4, False)),
            ),
        ),
        graph=tuple(p.GraphNode(name, "Conv", reads, 1000 * k, 10) for k, (name, reads) in
                    enumerate(chain, 1)),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with the full report and its images."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    write_images(pixels, tmp_path / "synthetic")
    write_report(full_report(), tmp_path, pixels=pixels)
    return tmp_path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium; skips with the reason where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not there: pip install 'dfqonnx[browser]'"
    )
    wanted = os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"
    found = next(filter(None, (shutil.which(name) for name in wanted if name)), None)
    if found is None:
        pytest.skip("no Chromium on this machine; set CHROMIUM to one")
    profile = tmp_path_factory.mktemp("profile")
    with playwright.sync_playwright() as session:
        context = session.chromium.launch_persistent_context(
            profile, executable_path=found, args=FLAGS
        )
        yield context
        context.close()
