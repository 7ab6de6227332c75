"""The real models beside the repository: how each reads images, and real images to hold it to.

Real images only measure: nothing here is shown to a run before its file is written.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.outputs import Comparison, compare_outputs
from dfqonnx.report.report import Report
from dfqonnx.runtime.session import Session
from dfqonnx.workflows import run as flow

MOST = 1000  # real images of one model
VALUES = 3e8  # multiply-adds are not known here: pixels of all of them together

# What the authors of models without an entry in the manifest document.
PUBLISHED = {
    "ultraface_rfb320": Preprocessing(
        name="ultraface", scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3
    ),
    "fastestdet_coco": Preprocessing(
        name="fastestdet", scale=255.0, mean=(0.0,), std=(1.0,), channels="BGR"
    ),
    "winml_style_candy": Preprocessing(
        name="candy", scale=1.0, mean=(0.0,), std=(1.0,), channels="BGR"
    ),
    "stm_mobilenetv2_050_128": Preprocessing(name="stm", scale=255.0, mean=(0.0,), std=(1.0,)),
}


@dataclass(frozen=True)
class Outcome:
    """One model quantized.

    Attributes:
        model: its file.
        report: of the run.
        seconds: wall clock.
        cpu: seconds of computing, all threads.
        real: teacher against student on real images; None where there are none for it.
        real_images: how many.
    """

    model: Path
    report: Report
    seconds: float
    cpu: float
    real: Comparison | None
    real_images: int

    @property
    def measure(self) -> tuple[str, float]:
        """The task's measure: share of equal classes, else decibels of the worst output."""
        found = self.real
        outputs = self.report.agreement.outputs if found is None else found.outputs
        share = found.agreement if found is not None else self.report.agreement.synthetic
        if share is not None:
            return "agreement", share.value
        decibels = [o.sqnr_db for o in outputs if o.sqnr_db is not None]
        return "sqnr", min(decibels, default=float("inf"))


def find_models(shared: Path) -> list[Path]:
    """Return every model, small ones first."""
    folder = shared / "models"
    found = [*folder.glob("*.onnx"), *(folder / "third_party").glob("*.onnx")]
    return sorted(found, key=lambda path: path.stat().st_size)


def input_spec(path: Path, shared: Path) -> Preprocessing | None:
    """Return how a model reads images, as its manifest entry or its authors say."""
    entries = json.loads((shared / "models" / "manifest.json").read_text(encoding="utf-8"))
    entry = next((e for e in entries if Path(e["file"]).name == path.name), {})
    if entry.get("mean") is None:
        return PUBLISHED.get(path.stem)
    return Preprocessing(
        name=path.stem,
        scale=float(entry["scale"]),
        mean=tuple(map(float, entry["mean"])),
        std=tuple(map(float, entry["std"])),
        layout=entry.get("layout", "NCHW"),
        channels=entry.get("channels", "RGB"),
    )


def quantize(path: Path, shared: Path, out: Path, *, bits: str, recipe: Recipe) -> Outcome:
    """Run one model, then hold its file to real images."""
    spec = input_spec(path, shared)
    wall, cpu = time.perf_counter(), time.process_time()
    report = flow.run(
        RunConfig(
            model=path,
            quant=QuantizationConfig(BitWidths.parse(bits)),
            out=out,
            preprocess=spec,
            recipe=recipe,
        )
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    teacher, student = Session(path), Session(out / report.student.path)
    shape = tuple(d or 0 for d in teacher.inputs[0].shape[1:])
    inputs = None if spec is None else InputFormat(spec, shape)
    pixels = None if inputs is None else real_images(shared, inputs.image_size)
    if inputs is None or pixels is None:
        return Outcome(path, report, wall, cpu, None, 0)
    x = inputs.to_tensor(pixels)
    results = [s.run_batched({s.inputs[0].name: x}, size=16) for s in (teacher, student)]
    return Outcome(path, report, wall, cpu, compare_outputs(*results, image=shape), len(x))


def real_images(shared: Path, size: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """Return images (N, H, W, C) of a size: test sets where they fit, else photographs scaled."""
    height, width, channels = size
    for name in ("cifar10_test.npz", "mnist_test.npz"):
        path = shared / "data" / name
        if path.is_file():
            with np.load(path, allow_pickle=False) as data:
                if data["x"].shape[1:] == size:
                    return np.asarray(data["x"][:MOST])
    path = shared / "data" / "imagenet_sample1000_224.tar"
    if channels != 3 or not path.is_file():
        return None
    count = int(min(MOST, max(4, VALUES // (height * width * channels * 20))))
    with tarfile.open(path) as tar:
        listed = tar.extractfile("labels.csv") or tar.extractfile("./labels.csv")
        if listed is None:
            raise UsageError(f"{path}: it has no labels.csv")
        rows = list(csv.DictReader(io.TextIOWrapper(listed, "utf-8")))
        found = []
        for row in rows[:: max(1, len(rows) // count)][:count]:
            member = tar.extractfile(row["file"])
            assert member is not None
            image = (
                Image.open(member).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            )
            found.append(np.asarray(image))
    return np.stack(found)
