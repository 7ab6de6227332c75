"""`dfqonnx similarity`: the divergence of an image set from a network's training data.

The training data are known by their BatchNormalization statistics. Three reference sets that
anybody can make show what the number means: noise, dead leaves, and images that are optimized
through the network itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.config.commands import SimilarityConfig
from dfqonnx.config.synthesis import PixelOptimizationConfig, SynthesisConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.data.arrays import ArrayImages
from dfqonnx.data.image_files import ImageSource
from dfqonnx.data.unlabeled import open_images
from dfqonnx.errors import UnsupportedModel
from dfqonnx.runtime.session import images_together
from dfqonnx.synthesis.divergence import Divergence, measure_divergence
from dfqonnx.synthesis.synthesize import synthesize
from dfqonnx.workflows.preflight import check_images, check_model, verify_data
from dfqonnx.workflows.teacher import Teacher, add_inputs, choose_device, open_program

REFERENCE_IMAGES = 256
REFERENCES = {
    "noise": SynthesisConfig(source="noise", images=REFERENCE_IMAGES),
    "dead leaves": SynthesisConfig(source="dead-leaves", images=REFERENCE_IMAGES),
    "images optimized through this model": SynthesisConfig(
        source="optimized",
        images=REFERENCE_IMAGES,
        dead_leaves_fraction=0.0,
        pixels=PixelOptimizationConfig(first_batch_steps=30, batch_steps=30),
    ),
}
OF_VALUES = {  # where the model reads no images
    "noise": REFERENCES["noise"],
    "structured fields": SynthesisConfig(source="fields", images=REFERENCE_IMAGES),
}


@dataclass(frozen=True)
class Reference:
    """A reference set."""

    name: str
    divergence: Divergence


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """What `dfqonnx similarity` found."""

    model: str
    images: str
    batchnorm: str  # present or partly
    preprocess: Preprocessing
    note: str  # what was done to the images to fit the model
    divergence: Divergence
    references: tuple[Reference, ...]  # the nearest last


def measure_similarity(config: SimilarityConfig, *, progress: Progress | None = None) -> Similarity:
    """Measure the divergence of an image set.

    Raises:
        UsageError: a path or an image does not fit.
        UnsupportedModel: dfqonnx cannot read the model, or it has no BatchNormalization.
        EnvironmentProblem: the device is missing.
    """
    check_model(config.model, what="model")
    check_images(config.images)
    verify_data(None, config.images)
    context = RunContext(
        seed=config.seed,
        device=choose_device(config.device),
        progress=progress or SilentProgress(),
    )
    model, program = open_program(config.model)
    if not model.statistics:
        raise UnsupportedModel(
            f"{config.model}: no BatchNormalization is left in this file, so it has no statistics"
            " of its training data to compare images with; export it again with BatchNormalization"
            " kept (torch.onnx.export with training=TrainingMode.PRESERVE, or"
            " do_constant_folding=False), or measure agreement instead: dfqonnx validate"
            " --teacher T --student S"
        )
    teacher = add_inputs(model, program, preprocess=config.preprocess, context=context)
    images, count = open_images(config.images, teacher.inputs.image_size)
    context.progress.start("evaluate", count)
    found = _divergence(teacher, _read(images, count, context.progress), context)
    return Similarity(
        model=str(config.model),
        images=str(config.images),
        batchnorm=teacher.model.batchnorm,
        preprocess=teacher.inputs.preprocessing,
        note=images.note(),
        divergence=found,
        references=_references(teacher, context) if config.references else (),
    )


def _divergence(
    teacher: Teacher, parts: Iterable[NDArray[np.uint8]], context: RunContext
) -> Divergence:
    """Return how far a set of images, given in parts (n, H, W, C), is from the training data."""
    batches = (
        teacher.inputs.to_tensor(torch.from_numpy(np.ascontiguousarray(part))) for part in parts
    )
    return measure_divergence(
        teacher.program,
        teacher.model.statistics,
        batches,
        context=context,
        inputs=teacher.inputs,
    )


def _read(images: ImageSource, count: int, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Yield all images (n, H, W, C), a few at a time."""
    chunk = images_together(images.read(0, 1).shape[1:])
    for start in range(0, count, chunk):
        pixels = images.read(start, min(start + chunk, count))
        yield pixels
        progress.advance(len(pixels))


def _references(teacher: Teacher, context: RunContext) -> tuple[Reference, ...]:
    """Measure the reference sets; return them, the furthest first."""
    found = []
    references = REFERENCES if teacher.inputs.is_image else OF_VALUES
    for name, recipe in references.items():
        images = synthesize(
            teacher.program,
            teacher.model.statistics,
            inputs=teacher.inputs,
            config=recipe,
            context=context,
        )
        parts = _read(ArrayImages(images.pixels), len(images.pixels), SilentProgress())
        found.append(Reference(name, _divergence(teacher, parts, context)))
    return tuple(sorted(found, key=lambda reference: -reference.divergence.divergence))
