"""Students of one network for several targets and widths: one teacher and one set of images.

As `dfqonnx run` makes them without training, but nothing is measured: that is the matrix's work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.config.request import run_request
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.data.unlabeled import open_images
from dfqonnx.distill.distill import distill
from dfqonnx.equalization.equalize import equalize
from dfqonnx.errors import DfqError
from dfqonnx.export.export import export
from dfqonnx.export.metadata import describe
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.version import __version__
from dfqonnx.workflows.run import plan_quantizers
from dfqonnx.workflows.teacher import Teacher, open_teacher

INPUTS = 30  # that every runtime runs
IMAGES = 96  # dead leaves that ranges and weights are set on


@dataclass(frozen=True)
class Network:
    """A float network of the matrix, and how it reads images."""

    title: str
    file: str
    preprocess: Preprocessing
    image_size: str | None = None
    is_small: bool = False  # whether it reads pictures of 32 x 32
    reads_text: bool = False


def _normalized(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    return Preprocessing(name="matrix", scale=scale, mean=mean, std=std)


_HALF, _IMAGENET = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NETWORKS = {
    "resnet20": Network(
        "ResNet-20", "cifar10_resnet20_bn.onnx", _normalized(255, *_IMAGENET), is_small=True
    ),
    "wrn16": Network(
        "WRN-16-1",
        "cifar10_wrn16_1_bn.onnx",
        _normalized(255, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)),
        is_small=True,
    ),
    "mobilenetv1": Network(
        "MobileNetV1 0.25",
        "imagenet_mobilenetv1_025_bn.onnx",
        _normalized(1, (127.5,) * 3, (127.5,) * 3),
    ),
    "mobilenetv2": Network(
        "MobileNetV2 0.5 (STM)",
        "third_party/stm_mobilenetv2_050_128.onnx",
        _normalized(127.5, (1.0,) * 3, (1.0,) * 3),
    ),
    "ultraface": Network(
        "UltraFace RFB-320",
        "third_party/ultraface_rfb320.onnx",
        _normalized(1, (127.0,) * 3, (128.0,) * 3),
    ),
    "efficientnet": Network(
        "EfficientNet-Lite0",
        "efficientnet_lite0_bn.onnx",
        _normalized(1, (127.0,) * 3, (128.0,) * 3),
    ),
    "ppocr": Network(
        "PP-OCR detector",
        "third_party/ppocr_det.onnx",
        _normalized(255, _HALF, _HALF),
        "320",
        reads_text=True,
    ),
}


@dataclass(frozen=True)
class MadeStudent:
    """A file, what its trained student computes, and the inputs of both."""

    file: Path
    inputs: NDArray[np.float32]  # (N, ...)
    trained: tuple[str, NDArray[np.float32]]  # a value's name, and what it is (N, ...)


def made_student(folder: Path) -> MadeStudent | str:
    """Read what `make_students` wrote; a text says why the target takes no such student."""
    refused = folder / "refused.json"
    if refused.is_file():
        return str(json.loads(refused.read_text(encoding="utf-8")))
    arrays = np.load(folder / "arrays.npz")
    return MadeStudent(
        folder / "student.onnx", arrays["inputs"], (str(arrays["name"]), arrays["trained"])
    )


def make_students(
    network: Network,
    models: Path,
    wanted: Mapping[tuple[str, str], Path],
    images: Path | None = None,
) -> Iterator[tuple[str, str]]:
    """Make the students that are not there yet, by (target, bits) -> folder; yield each.

    Their inputs are the first of `images`, an npz or a folder; procedural ones without it.
    """
    missing = {key: folder for key, folder in wanted.items() if not folder.is_dir()}
    if not missing:
        return
    context = RunContext()
    source = run_request(models / network.file, "w8a8", preprocess=network.preprocess,
                         recipe=_recipe(), image_size=network.image_size)  # fmt: skip
    teacher = open_teacher(source, context)
    pixels = _choose_inputs(teacher.inputs, images)
    made = synthesize(
        teacher.program,
        teacher.model.statistics,
        inputs=teacher.inputs,
        config=source.recipe.synthesis,
        context=context,
    )
    for (target, bits), folder in missing.items():
        part = folder.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        try:
            config = run_request(models / network.file, bits, preprocess=network.preprocess,
                                 recipe=_recipe(), image_size=network.image_size,
                                 target=target)  # fmt: skip
            _make(config, teacher, (made, pixels), part, context=context)
        except DfqError as error:
            (part / "refused.json").write_text(json.dumps(str(error)), encoding="utf-8")
        part.rename(folder)
        yield target, bits


def _recipe() -> Recipe:
    return replace(
        Recipe(),
        synthesis=SynthesisConfig(source="dead-leaves", images=IMAGES),
        distillation=DistillationConfig(
            steps=0, calibration_images=IMAGES, holdout_images=16, gptq_damping=()
        ),
    )


def _choose_inputs(inputs: InputFormat, images: Path | None) -> NDArray[np.uint8]:
    if images is None:
        return make_probe_images(inputs.image_size, rng=np.random.default_rng(1), count=INPUTS)
    source, count = open_images(images, inputs.image_size)
    return source.read(0, min(INPUTS, count))


def _make(
    config: RunConfig,
    teacher: Teacher,
    made: tuple[SyntheticImages, NDArray[np.uint8]],
    folder: Path,
    *,
    context: RunContext,
) -> None:
    """Write `student.onnx` and `arrays.npz`."""
    images, pixels = made
    progress: Any = context.progress
    plan = plan_quantizers(config, teacher, progress)
    inputs = teacher.inputs
    network = equalize(
        teacher.program, plan, teacher.model.statistics,
        spec=config.recipe.equalization, inputs=inputs, progress=progress,
    )  # fmt: skip
    student = Student(network.program, network.plan)
    distill(
        network, student, images, config=config.recipe.distillation,
        equalization=config.recipe.equalization, inputs=inputs, context=context,
    )  # fmt: skip
    metadata = describe(
        version=__version__, quant=config.quant, target=config.target, seed=config.seed,
        recipe="matrix", teacher=teacher.model.source.sha256, inputs=inputs.preprocessing,
        image_size=inputs.shape if teacher.model.open_axes else None,
    )  # fmt: skip
    exported = export(
        teacher.model, network.plan, student.qparams(),
        storage=config.quant.weight_storage, metadata=metadata,
    )  # fmt: skip
    write(exported, folder / "student.onnx")
    x = inputs.to_tensor(pixels)
    student.to("cpu").eval()
    with torch.no_grad():
        trained = [student(part)[0].numpy() for part in torch.split(torch.from_numpy(x), 1)]
    np.savez(
        folder / "arrays.npz",
        inputs=x,
        trained=np.concatenate(trained),
        name=student.training_outputs[0],
    )
