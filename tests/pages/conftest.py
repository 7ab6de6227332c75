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
    histogram = p.Histogram(
        first=lo - 0.5 - 8 * width, width=width, counts=counts, below=1, above=2
    )
    return p.CodeOccupancy(
        lowest=lo, highest=lo + 2**bits - 1, scale=scale, clipped=0.01, histogram=histogram
    )


def full_report(layers: int = 4) -> m.Report:
    """Every section is there; one node bears a name that tries to be HTML."""
    names = [EVIL, *(f"conv{k}" for k in range(2, layers + 1))]
    chain = zip(names, [(), *((name,) for name in names)], strict=False)
    return m.Report(
        teacher=m.ModelFacts("net.onnx", "ab" * 32, 400_000, Interval(91.7, 91.1, 92.2, 10_000)),
        student=m.ModelFacts(
            "net.w4a4.onnx", "cd" * 32, 60_000, Interval(91.0, 90.4, 91.6, 10_000)
        ),
        bits=m.BitFacts(weights=4, activations=4),
        drop=Drop(Interval(0.7, 0.4, 1.0, 10_000), 0.01, 90, 20),
        agreement=m.AgreementFacts(
            synthetic=Interval(0.97, 0.95, 0.99, 64),
            evaluation=Interval(0.95, 0.94, 0.96, 10_000),
            kl=0.02,
            sqnr_db=21.3,
        ),
        parity=m.ParityFacts(
            written_vs_trained=s.MismatchFacts(3e-5, 1),
            deployed_vs_written=s.MismatchFacts(2e-5, 1),
            same_class=0.999,
            images=64,
        ),
        audit=Audit({"QLinearConv": 3}, {}, (FloatKernel(EVIL, "Conv", f"because {EVIL}"),), "cpu"),
        latency=Latency(
        teacher_ms=2.0, student_ms=1.0, speedup=2.0, low=1.9, high=2.1, batch=1, threads=1
    ),
        seconds={"distill": 10.0, "total": 12.0},
        recipe="default",
        seed=3,
        preprocess={"name": "imagenet", "mean": [0.485, 0.456, 0.406]},
        gates=(
            m.Gate(rule="drop<=1.0", value=EVIL, holds=None),
            m.Gate(rule="size<=0.2x", value="0.15", holds=True),
        ),
        warnings=(f"look: {EVIL}",),
        environment={"python": "3.11", "cuda": None},
        command="dfqonnx run --model net.onnx --bits 4",
        training=s.TrainingFacts(
            steps=100,
            kept=True,
            untrained_agreement=Interval(0.9, 0.85, 0.95, 64),
            untrained_kl=0.2,
            trained_kl=0.05,
            log=tuple(
                s.TrainingLogEntry(step=25 * k, seconds=2.0 * k, loss=1.0 / k, lr_factor=0.9**k)
                for k in range(1, 5)
            ),
            untrained_top1=Interval(85.5, 84.8, 86.2, 10_000),
        ),
        disagreement=s.count_disagreements("synthetic", Classes((0, 1, 2) * 4, (0, 1, 1) * 4)),
        class_names=("cat", EVIL, "dog"),
        held_out_classes=s.HeldOutClasses(tuple(range(12)), (0, 1, 2) * 4, (0, 1, 1) * 4),
        layer_noise=p.LayerNoise(
            64,
            tuple(
                p.WeightedLayerNoise(
                    node=name, op="Conv", weight_bits=4, input_bits=8,
                    in_network_sqnr_db=20.0 - k, isolated_sqnr_db=22.0 + k,
                    weight=occupancy(4, True),
                )
                for k, name in enumerate(names)
            ),
            (
                p.ActivationNoise(
                    quantizer="input", tensor="input", role="input", bits=8, sqnr_db=40.0,
                    values=occupancy(8, True),
                ),
                p.ActivationNoise(
                    quantizer=EVIL, tensor=EVIL, role="node-input", bits=4, sqnr_db=15.0,
                    values=occupancy(4, False),
                ),
            ),
        ),
        graph=tuple(
            p.GraphNode(node=name, op="Conv", reads=reads, multiply_adds=1000 * k, parameters=10)
            for k, (name, reads) in enumerate(chain, 1)
        ),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with the full report and its images."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    write_images(pixels, tmp_path / "synthetic", source="dead-leaves")
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
