"""Make students whose true drop is known, for `dfqonnx/evaluation/drop_estimate/students.csv`.

    python tests/bench/estimate_students.py --shared ../shared --out students.csv
    python tests/bench/estimate_students.py ... --file resnet20=run/student.onnx   # one that exists

Every student is quantized, exported and run in ONNX Runtime like any other. Widths 8 to 2, plain
rounding or reconstruction, a short training, and damage on purpose: Gaussian noise on all weights,
activation ranges cut, one layer at 2 bits, wrong channel scales, dark images to calibrate on.
Labels enter only the column `drop`, which is what the regression's coefficients are fitted to.
Students that the table has already are not made again. About 25 minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.importer import to_program
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.distill.distill import distill
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.evaluation.drop_estimate.calibration_set import (
    KnownStudent,
    read_students,
    write_students,
)
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import (
    certainty,
    fixed_images_ratio,
    real_images_ratio,
)
from dfqonnx.evaluation.drop_estimate.regression import (
    Basis,
    cross_validate,
    fit_regression,
    predict_held_out,
)
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.gptq import gptq
from dfqonnx.runtime.session import Session
from dfqonnx.synthesis.sources.dead_leaves import dead_leaves
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.distill.conftest import synthetic

REAL = 64  # unlabeled images of the second basis, none of those that the drop is measured on
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
WIDE = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
BYTE = (127.5,) * 3, (127.5,) * 3


@dataclass(frozen=True)
class Network:
    """Exports of one set of weights, how they read pixels, and where labeled images are."""

    files: tuple[str, ...]
    inputs: Preprocessing
    data: str
    images: int


@dataclass(frozen=True)
class Recipe:
    """How one student is made."""

    bits: str
    method: str = "plain"
    damage: str = ""
    amount: float = 0.0

    @property
    def label(self) -> str:
        damage = f" {self.damage} {self.amount:g}" if self.amount else f" {self.damage}"
        return f"{self.bits} {self.method}{damage if self.damage else ''}"


def rgb(numbers: tuple[Any, Any], scale: float = 255.0, **more: Any) -> Preprocessing:
    return Preprocessing(name="known", scale=scale, mean=numbers[0], std=numbers[1], **more)


GRAY = Preprocessing(name="known", scale=1.0, mean=(0.0,), std=(1.0,), channels="gray")
NETWORKS = {
    "own resnet20": Network(("own_resnet20_cifar10.onnx",), rgb(CIFAR), "cifar10", 5000),
    "resnet20": Network(
        ("cifar10_resnet20_bn.onnx", "cifar10_resnet20_folded.onnx"), rgb(IMAGENET), "cifar10", 5000
    ),
    "wrn16-1": Network(
        ("cifar10_wrn16_1_bn.onnx", "cifar10_wrn16_1_folded.onnx"), rgb(WIDE), "cifar10", 5000
    ),
    "winml cnn": Network(("third_party/winml_cifar10_cnn.onnx",), rgb(HALF), "cifar10", 5000),
    "mnist cnn": Network(("third_party/cntk_mnist.onnx",), GRAY, "mnist", 8000),
    "resnet56": Network(
        ("cifar10_resnet56_bn.onnx", "cifar10_resnet56_folded.onnx"), rgb(IMAGENET), "cifar10", 5000
    ),
    "mobilenetv1": Network(
        ("imagenet_mobilenetv1_025_bn.onnx", "imagenet_mobilenetv1_025_nhwc_folded.onnx"),
        rgb(BYTE, 1.0),
        "imagenet",
        872,
    ),
}
WIDTHS = [
    Recipe("w8a8"), Recipe("w6a6"), Recipe("w5a5", "refit"), Recipe("w4a4", "refit"),
    Recipe("w3a3", "refit"), Recipe("w2a2", "refit"), Recipe("w4a8"), Recipe("w3a8", "refit"),
    Recipe("w2a8", "refit"), Recipe("w8a4"), Recipe("w8a3"),
]  # fmt: skip
DAMAGED = [
    Recipe("w8a8", damage="noise", amount=0.05), Recipe("w8a8", damage="noise", amount=0.15),
    Recipe("w8a8", damage="cut", amount=0.4), Recipe("w8a8", damage="layer"),
    Recipe("w8a8", damage="scale", amount=0.1), Recipe("w6a6", damage="dark"),
]  # fmt: skip
TRAINED = [Recipe("w4a4", "trained"), Recipe("w3a3", "trained")]
USUAL = [*WIDTHS, *DAMAGED, *TRAINED]
FRAGILE = [  # MobileNet 0.25 is at chance after most of the usual
    Recipe("w8a8"), Recipe("w8a8", "refit"), Recipe("w7a7", "refit"), Recipe("w6a6", "refit"),
    Recipe("w5a5", "refit"), Recipe("w4a4", "refit"), Recipe("w3a3", "refit"), Recipe("w6a8"),
    Recipe("w5a8", "refit"), Recipe("w4a8", "refit"), Recipe("w3a8", "refit"), Recipe("w8a6"),
    Recipe("w8a5"), Recipe("w8a8", "refit", "noise", 0.01), Recipe("w8a8", "refit", "cut", 0.8),
    Recipe("w8a8", "refit", "scale", 0.02), Recipe("w8a8", "refit", "dark"),
    Recipe("w6a6", "trained"), Recipe("w5a5", "trained"),
]  # fmt: skip


def labeled(shared: Path, name: str) -> tuple[Any, Any]:
    """Images (N, H, W, C) and labels, in random order."""
    if name == "imagenet":
        return _imagenet(shared / "data" / "imagenet_sample1000_224.tar")
    with np.load(shared / "data" / f"{name}_test.npz") as found:
        x, y = found["x"], found["y"]
    order = np.random.default_rng(0).permutation(len(y))
    return x[order], y[order]


def _imagenet(path: Path) -> tuple[Any, Any]:
    with tarfile.open(path) as archive:
        files = {m.name.split("/")[-1]: archive.extractfile(m) for m in archive if m.isfile()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    rows = list(csv.DictReader(io.StringIO(contents["labels.csv"].decode())))
    order = np.random.default_rng(0).permutation(len(rows))
    pictures = [contents[rows[k]["file"].split("/")[-1]] for k in order]
    x = np.stack([np.asarray(Image.open(io.BytesIO(p)).convert("RGB")) for p in pictures])
    return x, np.array([int(rows[k]["label"]) for k in order])


def make(
    recipe: Recipe, model: NormalizedModel, program: Program, inputs: InputFormat, seed: int
) -> Any:
    """A student of `program`, exported."""
    sites = place_quantizers(
        model,
        QuantizationConfig(BitWidths.parse(recipe.bits)),
        ONNXRUNTIME_CPU,
        input_signed=inputs.signed,
    )
    student, generator = Student(program, sites), torch.Generator().manual_seed(1000 + seed)
    height, width, channels = inputs.image_size
    large = height > 64
    many = recipe.method == "trained"
    count = (256 if large else 2048) if many else (64 if large else 256)
    chunks = dead_leaves(count, (height, width, channels), generator)
    pixels = torch.cat(list(chunks))
    if recipe.damage == "dark":
        pixels = (pixels * 0.5).round().to(torch.uint8)
    if many:
        config = DistillationConfig(
            steps=50,
            batch_size=16 if large else 64,
            gptq_damping=(0.3,),
            calibration_images=64 if large else 128,
            holdout_images=64,
        )
        distill(
            EqualizedNetwork(program, sites),
            student,
            synthetic(pixels.numpy()),
            config=config,
            equalization=EqualizationConfig(),
            inputs=inputs,
            context=RunContext(seed=seed),
        )
        student.eval()
    else:
        x = inputs.to_tensor(pixels)
        student.initialize(list(x.split(32)))
        if recipe.method == "refit":
            gptq(student, program, x, generator=generator, damping=0.3)
    harm(student, recipe, generator)
    return export(model, sites, student.qparams())


@torch.no_grad()
def harm(student: Student, recipe: Recipe, generator: torch.Generator) -> None:
    """Damage a student on purpose."""
    operators, amount = student.layers(), recipe.amount
    if recipe.damage == "cut":
        for quantizer in student.quantizers()[1:]:
            quantizer.log_scale.add_(math.log(amount))
    elif recipe.damage == "layer":
        weight = operators[len(operators) // 2].weight
        step = 1.2 * weight.std()
        weight.copy_((weight / step).round().clamp(-2, 1) * step)
    for op in operators:
        if recipe.damage == "noise":
            noise = torch.randn(op.weight.shape, generator=generator)
            op.weight.add_(amount * op.weight.std() * noise)
        elif recipe.damage == "scale":
            shape = [1] * op.weight.dim()
            shape[op.spec.axis] = op.weight.shape[op.spec.axis]
            op.weight.mul_(torch.exp(amount * torch.randn(shape, generator=generator)))


def outputs(path: Path, inputs: InputFormat, images: Any) -> Any:
    session = Session(path)
    name = session.inputs[0].name
    parts = (images[k : k + 64] for k in range(0, len(images), 64))
    found = [session.run_batched({name: inputs.to_tensor(x)}) for x in parts]
    return np.concatenate([next(iter(one.values())) for one in found])


class Bench:
    """One network's images and its own answers to them."""

    def __init__(self, name: str, network: Network, shared: Path) -> None:
        self.name, self.network = name, network
        x, self.y = labeled(shared, network.data)
        self.teachers = []
        for file in network.files:
            model = normalize(load(shared / "models" / file))
            layout = "NHWC" if "nhwc" in file else "NCHW"
            preprocessing = replace(network.inputs, layout=layout)  # type: ignore[arg-type]
            inputs = InputFormat(preprocessing, model.input_shape)
            self.teachers.append((shared / "models" / file, model, inputs))
        size = self.teachers[0][2].image_size
        self.images = np.concatenate(
            [*make_fixed_images(size).values(), x[-REAL:], x[: network.images]]
        )
        self.fixed = sum(map(len, make_fixed_images(size).values()))
        self.y = self.y[: network.images]
        path, _, inputs = self.teachers[0]
        self.teacher = outputs(path, inputs, self.images)

    def measure(self, label: str, path: Path, inputs: InputFormat) -> KnownStudent:
        first, second = self.fixed, self.fixed + REAL
        t, s = self.teacher, outputs(path, inputs, self.images)
        right = [(z[second:].argmax(1) == self.y).mean() for z in (t, s)]
        return KnownStudent(
            network=self.name,
            student=label,
            classes=t.shape[1],
            drop=float(100 * (right[0] - right[1])),
            images=len(self.y),
            certainty=certainty(t[:first]),
            fixed=fixed_images_ratio(t[:first], s[:first]),
            real=real_images_ratio(t[first:second], s[first:second]),
        )


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def show(known: list[KnownStudent]) -> None:
    bases: tuple[Basis, ...] = ("fixed", "real")
    for basis in bases:
        say(basis, fit_regression(known, basis), cross_validate(predict_held_out(known, basis)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--file", action="append", default=[], help="NETWORK=LABEL=FILE.onnx")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = list(read_students(given.out)) if given.out.exists() else []
    files = [text.split("=", 2) for text in given.file]
    for name, network in NETWORKS.items():
        if name not in (given.network or NETWORKS):
            continue
        have = {k.student for k in known if k.network == name}
        recipes = FRAGILE if name == "mobilenetv1" else USUAL
        todo = [(k, r) for k, r in enumerate(recipes) if r.label not in have]
        more = [
            (label, Path(path)) for of, label, path in files if of == name and label not in have
        ]
        if not (todo or more):
            continue
        bench = Bench(name, network, given.shared)
        for label, path in more:
            known.append(bench.measure(label, path, bench.teachers[0][2]))
            say(known[-1])
        for k, recipe in todo:
            _, model, inputs = bench.teachers[k % len(bench.teachers)]
            began = time.time()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "student.onnx"
                write(make(recipe, model, to_program(model), inputs, k), path)
                known.append(bench.measure(recipe.label, path, inputs))
            say(f"{time.time() - began:.0f} s", known[-1])
            write_students(known, given.out)
        write_students(known, given.out)
    show(known)


if __name__ == "__main__":
    main()
