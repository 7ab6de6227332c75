"""`dfqonnx synth`: images for a network, written to files. Nothing is trained but generators.

model -> images -> the network's classes -> files
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.config.commands import SynthConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.data.write_images import LabeledPixels, check_images_out, write_images_out
from dfqonnx.errors import UsageError
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.report.files import write_arrays
from dfqonnx.report.html.images import captioned_sheet
from dfqonnx.runtime.session import images_together
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS
from dfqonnx.workflows.preflight import check_model, check_space
from dfqonnx.workflows.teacher import Teacher, add_inputs, choose_device, open_program

OPPONENT = QuantizationConfig(BitWidths(4, 4))  # the student, where a recipe needs one


@dataclass(frozen=True, kw_only=True)
class SynthesizedFiles:
    """What was made, and the files that hold it."""

    out: Path
    sheet: Path  # the contact sheet
    generator: Path | None  # None where the recipe trains none
    count: int
    size: tuple[int, int, int]  # height, width and channels
    source: str
    guided_by: str  # in words
    divergence: float | None  # nats; None without BatchNormalization
    classes: dict[int, int]  # images by class; empty where the network has none
    seconds: float  # wall clock


def synthesize_to_files(
    config: SynthConfig, *, progress: Progress | None = None
) -> SynthesizedFiles:
    """Make images and write them.

    Raises:
        UsageError: a path or the recipe does not fit.
        UnsupportedModel: dfqonnx cannot read the model.
        EnvironmentProblem: the device is missing, or the disk fails.
    """
    started = time.perf_counter()
    check_model(config.model, what="model")
    check_images_out(config)
    context = RunContext(
        seed=config.seed,
        device=choose_device(config.device),
        progress=progress or SilentProgress(),
    )
    model, program = open_program(config.model, recipe=config.recipe, given=config.inputs)
    if len(model.input_shape) != 3:
        form = "x".join(map(str, model.input_shape))
        raise UsageError(
            f"{config.model}: reads {form} values, no images; there is nothing to synthesize"
        )
    teacher = add_inputs(model, program, preprocess=config.preprocess, context=context)
    images = _synthesize(config, teacher, context)
    classes = _classes(teacher, images.pixels, context)
    tensor = _calibration_array(config, images.pixels, teacher.inputs)
    write_images_out(config, LabeledPixels(images.pixels, classes, tensor))
    sheet = captioned_sheet(
        images.pixels, count=len(images.pixels), source=images.source, classes=classes
    )
    with atomic_file(config.sheet) as place:
        sheet.save(place, format="PNG", optimize=True)
    if images.generators is not None:
        with atomic_file(config.generator) as place:
            write_arrays(images.generators.state(), place)
    counts = np.unique([] if classes is None else classes, return_counts=True)
    return SynthesizedFiles(
        out=config.out,
        sheet=config.sheet,
        generator=None if images.generators is None else config.generator,
        count=len(images.pixels),
        size=(images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3]),
        source=images.source,
        guided_by=images.reason,
        divergence=images.divergence,
        classes={int(c): int(n) for c, n in zip(*counts, strict=True)},
        seconds=time.perf_counter() - started,
    )


def _synthesize(config: SynthConfig, teacher: Teacher, context: RunContext) -> SyntheticImages:
    recipe = config.recipe.synthesis
    if config.count is not None:
        recipe = dataclasses.replace(recipe, images=config.count)
    size = 4 if config.kind == "npy" else 1  # float32 or uint8
    check_space(config.out, needed=size * pixel_bytes(recipe, teacher.inputs.shape))
    opponents = make_fixed_opponents(
        teacher.program,
        place_quantizers(
            teacher.model, OPPONENT, TARGETS[DEFAULT_TARGET], input_signed=teacher.inputs.signed
        ),
        spec=recipe,
        inputs=teacher.inputs,
        context=context,
        alone=True,
    )
    return synthesize(
        teacher.program,
        teacher.model.statistics,
        inputs=teacher.inputs,
        config=recipe,
        context=context,
        opponents=opponents,
    )


@torch.no_grad()
def _classes(
    teacher: Teacher, pixels: NDArray[np.uint8], context: RunContext
) -> NDArray[np.int64] | None:
    """Return the network's class of every image; None where it has no classes."""
    net = ProgramModule(teacher.program, channels_last=True).to(context.device)
    found = []
    for part in torch.split(torch.from_numpy(pixels), images_together(pixels.shape[1:])):
        logits = net(teacher.inputs.to_tensor(part.to(context.device)))[0]
        if logits.dim() != 2 or logits.shape[1] < 2:
            return None
        found.append(logits.argmax(1).cpu())
    return torch.cat(found).numpy()


def _calibration_array(
    config: SynthConfig, pixels: NDArray[np.uint8], inputs: InputFormat
) -> NDArray[np.float32] | None:
    """Return the float array of an npy in its layout; None for other kinds."""
    if config.kind != "npy":
        return None
    if config.preprocessed and not inputs.is_image:
        return inputs.to_tensor(pixels)
    layout = config.layout or inputs.preprocessing.layout
    shape = pixels.shape[1:]
    if config.preprocessed:
        preprocessing = dataclasses.replace(inputs.preprocessing, layout=layout)
        shape = shape if layout == "NHWC" else (shape[2], *shape[:2])
        return InputFormat(preprocessing, shape).to_tensor(pixels)
    axes = (0, 3, 1, 2) if layout == "NCHW" else (0, 1, 2, 3)
    return np.ascontiguousarray(pixels.transpose(axes), np.float32)
