"""The first steps of people who know other tools: what they type, and what they get.

    python pipelines/first_steps.py            runs every step in an empty folder, and shows it

Each step names the words that it must be answered with: a result, or the way on. A step that only
says no is a dead end, and `tests/pipelines/test_first_steps.py` finds it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser
from PIL import Image

CLASSES = ("cat", "dog", "owl", "yak")
QUICK = "--recipe ptq --budget 15s"
NETWORK = """<ir_version: 8, opset_import: ["": 17]>
net (float[N,3,16,16] image) => (float[N,4] scores)
{
    a = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(image, w, b)
    r = Relu(a)
    d = Conv<pads=[1,1,1,1], strides=[2,2], kernel_shape=[3,3]>(r, u, t)
    s = Relu(d)
    p = GlobalAveragePool(s)
    f = Flatten(p)
    scores = Gemm<transB=1>(f, v, c)
}"""
SHAPES = {
    "w": (8, 3, 3, 3), "b": (8,), "u": (16, 8, 3, 3), "t": (16,), "v": (4, 16), "c": (4,),
}  # fmt: skip


@dataclass(frozen=True)
class FirstStep:
    """A command as somebody types it who has not read the manual."""

    typed: str  # without `dfqonnx`
    code: int  # that it ends with
    answer: str  # words that must be in what is shown


STEPS = (
    # looking around
    FirstStep("", 0, "Start here: dfqonnx run"),
    FirstStep("--help", 0, "quantize"),
    FirstStep("--version", 0, "dfqonnx 0."),
    FirstStep("version", 2, "dfqonnx --version"),
    FirstStep("help", 2, "dfqonnx --help"),
    FirstStep("doctor", 0, "ready for a run"),
    FirstStep("targets", 0, "onnxruntime-cpu"),
    FirstStep("recipes", 0, "Use a recipe"),
    FirstStep("recipes defualt", 2, "did you mean 'default'"),
    # names of commands elsewhere
    FirstStep("quantize net.onnx", 2, "dfqonnx run net.onnx --bits 8"),
    FirstStep("quantize --input net.onnx --output q.onnx", 2, "net.onnx --bits 8 --out q.onnx"),
    FirstStep("net.onnx", 2, "dfqonnx run net.onnx"),
    FirstStep("export net.onnx", 2, "dfqonnx run net.onnx"),
    FirstStep("info net.onnx", 2, "dfqonnx inspect net.onnx"),
    # the model
    FirstStep("run", 2, "dfqonnx run MODEL.onnx"),
    FirstStep("run nett.onnx", 2, "has net.onnx"),
    FirstStep("run net.pt", 2, "export it to ONNX first"),
    FirstStep("run notes.txt", 2, "is not a readable ONNX model"),
    FirstStep("inspect net.onnx", 0, "dfqonnx inspect --layers lists every tensor"),
    FirstStep("inspect net.onnx --layers", 0, "quantized tensors"),
    # bits
    FirstStep("run net.onnx --bits int8 --dry-run", 0, "as w8a8"),
    FirstStep("run net.onnx --bits int4 --dry-run", 0, "as w4a4"),
    FirstStep("run net.onnx --bits w4 --dry-run", 0, "as w4a8"),
    FirstStep("run net.onnx --bits fp16", 2, "write 8, 4, w4a8"),
    FirstStep("run net.onnx --precision int8", 2, "here it is --bits"),
    FirstStep("run net.onnx --output q.onnx", 2, "here it is --out"),
    FirstStep("run net.onnx --quantize_mode=int8", 2, "here it is --bits"),
    # data
    FirstStep("run net.onnx --calibration_data photos", 2, "here it is --calibrate-with"),
    FirstStep("run net.onnx --dataset classes", 2, "--eval-data (labeled, to measure on)"),
    FirstStep("run net.onnx --eval-data photos", 2, "give them as --images"),
    FirstStep("run net.onnx --eval-data classes --dry-run", 0, "on 8 images of yours"),
    FirstStep("run net.onnx --eval-data parts", 2, "--eval-data parts/val"),
    FirstStep("run net.onnx --eval-data parts/val", 2, "--classes FILE"),
    FirstStep("run net.onnx --eval-data parts/val --classes names.txt --dry-run", 0, "on 4 images"),
    FirstStep("run net.onnx --eval-data data.npz --dry-run", 0, "on 8 images of yours"),
    FirstStep("run net.onnx --eval-data images.npy --dry-run", 0, "on 8 images of yours"),
    # nodes, targets, rules
    FirstStep("run net.onnx --nodes_to_exclude Gemm", 2, "here it is --keep-float"),
    FirstStep("run net.onnx --keep-float Gmem", 2, "did you mean 'Gemm'"),
    FirstStep("run net.onnx --keep-float Gemm --dry-run", 0, "kept in float as asked"),
    FirstStep("run net.onnx --target trt", 2, "did you mean 'tensorrt'"),
    FirstStep("run net.onnx --target ncnn", 2, "Known: onnxruntime-cpu"),
    FirstStep("run net.onnx --bits 8 --target tensorrt --dry-run", 0, "as w8a8 for tensorrt"),
    FirstStep("run net.onnx --device gpu", 2, "is not one of 'auto', 'cpu', 'cuda'"),
    FirstStep("run net.onnx --gate accuracy>=90", 2, "did you mean 'top1'"),
    FirstStep("run net.onnx --gate drop<=1 --dry-run", 0, "CANNOT be decided; it needs labels"),
    # working, and with what came out
    FirstStep(
        f"run net.onnx --bits int8 --calibrate-with photos {QUICK} --out net.int8.onnx",
        0,
        "Wrote net.int8.onnx",
    ),
    FirstStep("run net.int8.onnx", 3, "start from the float model"),
    FirstStep("validate net.onnx net.int8.onnx --eval-data classes", 0, "agreement"),
    FirstStep("evaluate net.int8.onnx", 2, "dfqonnx validate FLOAT.onnx net.int8.onnx"),
    FirstStep("compare net.int8.onnx --teacher net.onnx", 0, "net.int8"),
    FirstStep("audit net.int8.onnx", 0, "nodes run on integers"),
    FirstStep("benchmark net.int8.onnx", 2, "compare net.int8.onnx --teacher FLOAT.onnx"),
    FirstStep("netron net.int8.onnx", 2, "dfqonnx view net.int8.onnx"),
    FirstStep("report net.int8", 0, "report.html"),
    FirstStep("synth net.onnx -n 16", 0, "Wrote net-images.npz"),
    FirstStep("similarity net.onnx photos", 3, "BatchNormalization"),
)


def make_files(folder: Path) -> None:
    """Put into a folder what people have: a model, photos, labeled images of several forms."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(NETWORK)
    for name, shape in SHAPES.items():
        array = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, folder / "net.onnx")
    (folder / "net.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "notes.txt").write_text("# Notes\n\nQuantize net.onnx.\n", encoding="utf-8")
    (folder / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    colors = rng.integers(0, 256, (8, 1, 1, 3))
    pixels = (colors + rng.normal(0, 20, (8, 16, 16, 3))).clip(0, 255).astype(np.uint8)
    labels = np.arange(8) % len(CLASSES)
    places = [("photos", k, f"{k}.png") for k in range(8)]
    places += [(f"classes/{CLASSES[labels[k]]}", k, f"{k}.png") for k in range(8)]
    places += [(f"parts/{part}/{name}", k, f"{k}.png") for part in ("train", "val")
               for k, name in enumerate(("owl", "cat", "owl", "cat"))]  # fmt: skip
    for place, image, name in places:
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[image]).save(folder / place / name)
    np.savez(folder / "data.npz", images=pixels.transpose(0, 3, 1, 2) / 255.0,
             labels=np.eye(len(CLASSES))[labels])  # fmt: skip
    np.save(folder / "images.npy", pixels)
    np.save(folder / "labels.npy", labels)


def run_steps(folder: Path, steps: tuple[FirstStep, ...]) -> Iterator[tuple[FirstStep, int, str]]:
    """Run each step in `folder`; yield it with its exit code and everything that it shows."""
    for step in steps:
        done = subprocess.run(
            [sys.executable, "-m", "dfqonnx", *step.typed.split()],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        yield step, done.returncode, done.stdout


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("words", nargs="*", help="only steps that hold one of these words")
    words = options.parse_args().words
    steps = tuple(s for s in STEPS if not words or any(word in s.typed for word in words))
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name))
        for step, code, shown in run_steps(Path(name), steps):
            print(f"$ dfqonnx {step.typed}\n{shown.rstrip()}\n[{code}]\n")
            if code != step.code or step.answer not in shown:
                wrong.append(f"{step.typed}: {code}, and not {step.code} with {step.answer!r}")
    print(f"{len(steps)} steps, {len(wrong)} dead ends")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
