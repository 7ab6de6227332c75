"""Hold an image set against what a network remembers of its training data: `dfqonnx similarity`.

The same network, the same measure and three sets that anybody can make tell what the number means:
noise, dead leaves, and images that the network's own statistics asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.config.commands import SimilarityConfig
from dfqonnx.config.synthesis import PixelOptimizationConfig, SynthesisConfig
from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat, image_size
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.data.image_files import ImageSource
from dfqonnx.data.unlabeled import open_images
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.synthesis.divergence import Divergence, measure_divergence
from dfqonnx.synthesis.pixels import to_tensor
from dfqonnx.synthesis.synthesize import synthesize
from dfqonnx.workflows.preflight import check_file
from dfqonnx.workflows.resolve_inputs import resolve_inputs
from dfqonnx.workflows.teacher import choose_device

CHUNK_VALUES = 2**20  # pixels shown at once
REFERENCE_IMAGES = 256
REFERENCES = {
    "noise": SynthesisConfig(source="noise", images=REFERENCE_IMAGES),
    "dead leaves": SynthesisConfig(source="dead-leaves", images=REFERENCE_IMAGES),
    "images optimized through this model": SynthesisConfig(
        source="optimized",
        images=REFERENCE_IMAGES,
        dead_leaves_fraction=0.0,
        pixels=PixelOptimizationConfig(30, 30),
    ),
}


@dataclass(frozen=True)
class Reference:
    """A set that the number is placed by.

    Attributes:
        name: what it is.
        likeness: how far it is.
    """

    name: str
    likeness: Divergence


@dataclass(frozen=True)
class Similarity:
    """What `dfqonnx similarity` found.

    Attributes:
        model: path.
        images: path.
        batchnorm: state of the model's statistics: present or partly.
        inputs: how pixels became the tensor.
        note: what was done to the images to fit; empty when nothing.
        likeness: of the images.
        references: nearest last.
    """

    model: str
    images: str
    batchnorm: str
    inputs: InputFormat
    note: str
    likeness: Divergence
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Teacher:
    """A network that remembers its training data.

    Attributes:
        model: its graph, with statistics.
        program: its program.
        inputs: how pixels become its tensor.
        device: where to compute.
    """

    model: NormalizedModel
    program: Program
    inputs: InputFormat
    device: torch.device

    def likeness(self, parts: Iterable[NDArray[np.uint8]]) -> Divergence:
        """Return how far a set of images, given in parts (n, H, W, C), is from that data."""
        batches = (
            to_tensor(
                torch.from_numpy(np.ascontiguousarray(part)),
                self.inputs,
                shape=self.model.input_shape,
            )
            for part in parts
        )
        return measure_divergence(self.program, self.model.statistics, batches, device=self.device)


def measure_similarity(spec: SimilarityConfig, *, progress: Progress | None = None) -> Similarity:
    """Measure an image set.

    Raises:
        UsageError: a path or an image does not fit, or the model has no BatchNormalization.
        UnsupportedModel: the model is none that dfqonnx can read.
        EnvironmentProblem: the device is missing.
    """
    progress = progress or SilentProgress()
    check_file(spec.model, what="--model")
    device = choose_device(spec.device)
    model = truncate_at_unsupported(normalize(load(spec.model)))
    if not model.statistics:
        raise UnsupportedModel(_nothing_to_hold_against(spec))
    inputs = resolve_inputs(
        spec.inputs, model, metadata=model.source.metadata, seed=spec.seed, progress=progress
    )
    size = image_size(model.input_shape, inputs.spec)
    images, count = open_images(spec.images, size)
    teacher = Teacher(model, to_program(model), inputs.spec, torch.device(device))
    progress.start("measure", count)
    found = teacher.likeness(_shown(images, count, size, progress))
    return Similarity(
        str(spec.model),
        str(spec.images),
        model.batchnorm,
        inputs.spec,
        images.note(),
        found,
        _references(spec, teacher, progress) if spec.references else (),
    )


def _nothing_to_hold_against(spec: SimilarityConfig) -> str:
    return (
        f"{spec.model}: no BatchNormalization is left in this file, so it remembers nothing of its"
        " training data that images could be held against; export it again with"
        " BatchNormalization kept (torch.onnx.export with training=TrainingMode.PRESERVE, or"
        " do_constant_folding=False), or measure agreement instead:"
        " dfqonnx validate --teacher T --student S"
    )


def _shown(
    images: ImageSource, count: int, size: tuple[int, int, int], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Yield all images (n, H, W, C), a few at a time."""
    chunk = max(1, min(256, CHUNK_VALUES // math.prod(size)))
    for start in range(0, count, chunk):
        pixels = images.read(start, min(start + chunk, count))
        yield pixels
        progress.advance(len(pixels))


def _references(
    spec: SimilarityConfig, teacher: Teacher, progress: Progress
) -> tuple[Reference, ...]:
    """Return the sets to compare with, the furthest first."""
    found = []
    for name, recipe in REFERENCES.items():
        images = synthesize(
            teacher.program,
            teacher.model.statistics,
            inputs=teacher.inputs,
            shape=teacher.model.input_shape,
            spec=recipe,
            seed=spec.seed,
            device=str(teacher.device),
            progress=progress,
        )
        chunk = max(1, CHUNK_VALUES // images.pixels[0].size)
        parts = (images.pixels[at : at + chunk] for at in range(0, len(images.pixels), chunk))
        found.append(Reference(name, teacher.likeness(parts)))
    return tuple(sorted(found, key=lambda reference: -reference.likeness.divergence))
