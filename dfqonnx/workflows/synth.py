"""Make images for a network and keep them: `dfqonnx synth`. Nothing is trained but generators.

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
from dfqonnx.config.recipe import check_needs
from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.data.write_images import WrittenImages, check_images_out, write_images_out
from dfqonnx.errors import UsageError
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.report.files import contact_sheet, write_arrays
from dfqonnx.report.html.images import sheet_by_class
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.synthesis.pixels import to_tensor
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS
from dfqonnx.workflows.preflight import check_file, check_space
from dfqonnx.workflows.resolve_inputs import offers, resolve_inputs
from dfqonnx.workflows.teacher import choose_device

OPPONENT = QuantizationConfig(
    BitWidths(4, 4)
)  # what images play against, where a recipe asks for a student
CHUNK_VALUES = 2**20


@dataclass(frozen=True)
class SynthesizedFiles:
    """What was made and where it lies.

    Attributes:
        out: the images.
        sheet: the contact sheet.
        generator: the trained generator; None where the recipe has none.
        count: images.
        size: height, width and channels.
        source: name of the source.
        guided_by: what steered it, in words.
        divergence: from the training data, in nats; None without BatchNormalization.
        classes: how many images of each class the network sees; empty where it tells none apart.
        seconds: wall clock.
    """

    out: Path
    sheet: Path
    generator: Path | None
    count: int
    size: tuple[int, int, int]
    source: str
    guided_by: str
    divergence: float | None
    classes: dict[int, int]
    seconds: float


def synthesize_to_files(spec: SynthConfig, *, progress: Progress | None = None) -> SynthesizedFiles:
    """Make images and write them.

    Raises:
        UsageError: a path or the recipe does not fit.
        UnsupportedModel: the model is none that dfqonnx can read.
        EnvironmentProblem: the device is missing, or the disk fails.
    """
    started, progress = time.perf_counter(), progress or SilentProgress()
    check_file(spec.model, what="--model")
    check_images_out(spec)
    device = choose_device(spec.device)
    model = truncate_at_unsupported(normalize(load(spec.model)))
    if len(model.input_shape) != 3:
        form = "x".join(map(str, model.input_shape))
        raise UsageError(f"{spec.model}: reads {form} values, no images; there is nothing to draw")
    check_needs(spec.recipe, spec.model, there=offers(model))
    inputs = resolve_inputs(
        spec.inputs, model, metadata=model.source.metadata, seed=spec.seed, progress=progress
    ).spec
    teacher = to_program(model)
    images = _images(spec, model, teacher, inputs=inputs, device=device, progress=progress)
    classes = _classes(teacher, images.pixels, inputs, device=device)
    write_images_out(
        spec, WrittenImages(images.pixels, classes, _array(spec, images.pixels, inputs))
    )
    sheet = contact_sheet(images.pixels)
    if classes is not None:
        sheet = sheet_by_class(images.pixels, classes)
    with atomic_file(spec.sheet) as place:
        sheet.save(place, format="PNG", optimize=True)
    live = images.live
    if live is not None:
        with atomic_file(spec.generator) as place:
            write_arrays(live.state(), place)
    counts = np.unique([] if classes is None else classes, return_counts=True)
    return SynthesizedFiles(
        out=spec.out,
        sheet=spec.sheet,
        generator=None if live is None else spec.generator,
        count=len(images.pixels),
        size=(images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3]),
        source=images.source,
        guided_by=images.reason,
        divergence=images.divergence,
        classes={int(c): int(n) for c, n in zip(*counts, strict=True)},
        seconds=time.perf_counter() - started,
    )


def _images(
    spec: SynthConfig,
    model: NormalizedModel,
    teacher: Program,
    *,
    inputs: InputFormat,
    device: str,
    progress: Progress,
) -> SyntheticImages:
    synth = spec.recipe.synthesis
    if spec.count is not None:
        synth = dataclasses.replace(synth, images=spec.count)
    size = 4 if spec.kind == "npy" else 1  # float32 or uint8
    check_space(spec.out, needed=size * pixel_bytes(synth, model.input_shape))
    against = make_fixed_opponents(
        teacher,
        place_quantizers(model, OPPONENT, TARGETS[DEFAULT_TARGET], input_signed=inputs.signed),
        spec=synth,
        inputs=inputs,
        shape=model.input_shape,
        seed=spec.seed,
        device=device,
        alone=True,
    )
    return synthesize(
        teacher,
        model.statistics,
        inputs=inputs,
        shape=model.input_shape,
        spec=synth,
        seed=spec.seed,
        device=device,
        progress=progress,
        opponents=against,
    )


@torch.no_grad()
def _classes(
    teacher: Program, pixels: NDArray[np.uint8], inputs: InputFormat, *, device: str
) -> NDArray[np.int64] | None:
    """Return the network's class of every image; None where it tells none apart."""
    net = ProgramModule(teacher, channels_last=True).to(device)
    found = []
    for part in torch.split(torch.from_numpy(pixels), max(1, CHUNK_VALUES // pixels[0].size)):
        logits = net(to_tensor(part.to(device), inputs))[0]
        if logits.dim() != 2 or logits.shape[1] < 2:
            return None
        found.append(logits.argmax(1).cpu())
    return torch.cat(found).numpy()


def _array(
    spec: SynthConfig, pixels: NDArray[np.uint8], inputs: InputFormat
) -> NDArray[np.float32] | None:
    """Return the float array of an npy in the layout asked for; None for other kinds."""
    if spec.kind != "npy":
        return None
    layout = spec.layout or inputs.layout
    if spec.preprocessed:
        there = dataclasses.replace(inputs, layout=layout)
        return to_tensor(torch.from_numpy(pixels), there).contiguous().numpy()
    axes = (0, 3, 1, 2) if layout == "NCHW" else (0, 1, 2, 3)
    return np.ascontiguousarray(pixels.transpose(axes), np.float32)
