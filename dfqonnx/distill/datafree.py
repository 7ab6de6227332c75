"""Data-free quantization before training: the float network reworked, then the student settled.

    even -> level -> equalise -> absorb   float network in, one with the same outputs out
    ranges -> correct                     activations' steps, biases of the initialised student

The parts are in `fakequant`; each says its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.fakequant.absorb import absorb, moved_biases
from dfqonnx.fakequant.correct import correct_biases, measured_means, set_ranges
from dfqonnx.fakequant.equalise import Statistics, equalise, scaled_statistics
from dfqonnx.fakequant.even import even, find_pairs
from dfqonnx.fakequant.expect import Expected, expect
from dfqonnx.fakequant.freedom import find_freedom
from dfqonnx.fakequant.level import level, shared_steps
from dfqonnx.fakequant.student import Student
from dfqonnx.progress import Progress
from dfqonnx.spec.imagesize import image_size
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.prepare import PrepareSpec
from dfqonnx.spec.sites import Sites
from dfqonnx.synth.leaves import painted
from dfqonnx.synth.pixels import to_tensor

_PAINTED = 4  # images that tell the spread of channels
_PIXELS, _MOST = 200_000, 64  # of those that tell their steps, and how many images at most


@dataclass(frozen=True)
class Reworked:
    """The float network that the student is a copy of.

    Attributes:
        program: the network.
        sites: its quantizers.
        expected: what its values are on the training data, by name, where it is known and asked.
    """

    program: Program
    sites: Sites
    expected: Mapping[str, Expected] = field(default_factory=dict)


def rework(
    program: Program,
    sites: Sites,
    statistics: Statistics,
    *,
    spec: PrepareSpec,
    inputs: InputSpec,
    shape: tuple[int, ...],
    progress: Progress,
) -> Reworked:
    """Return the network that quantizes best among those with the same outputs.

    Args:
        program: the float network; left as it is.
        sites: its quantizers.
        statistics: what BatchNormalization knew, by value name.
        spec: which parts are wanted.
        inputs: how pixels become the network's input.
        shape: of one input, without the batch axis.
        progress: told what was done.
    """
    program, evened = even(program, _paint(inputs, shape)) if find_pairs(program) else (program, 0)
    if evened:
        progress.note(f"channels of {evened} Conv in front of InstanceNormalization evened")
    program, statistics, levelled = _levelled(
        program, sites, statistics, share=spec.level, inputs=inputs, shape=shape
    )
    if levelled:
        steps = "step" if levelled == 1 else "steps"
        progress.note(f"channels levelled under {levelled} shared {steps} of activations")
    if spec.equalise:
        found = equalise(program, sites, statistics)
        note = f"{len(found.pairs)} pairs of layers equalised in {found.sweeps} sweeps"
        if found.relaxed:
            note += f", {len(found.relaxed)} ceilings gone"
        if spec.absorb:
            before = found.program.tensors
            found = absorb(found)
            note += f", {moved_biases(before, found)} high biases absorbed"
        progress.note(note)
        program, sites, statistics = found.program, found.sites, found.statistics
    expected: Mapping[str, Expected] = {}
    if spec.correct or spec.ranges == "batchnorm":
        expected = expect(program, statistics, inputs, shape)
    return Reworked(program, sites, expected)


def _levelled(
    program: Program,
    sites: Sites,
    statistics: Statistics,
    *,
    share: float,
    inputs: InputSpec,
    shape: tuple[int, ...],
) -> tuple[Program, Statistics, int]:
    """Return network and statistics with levelled channels, and under how many steps."""
    if not share:
        return program, statistics, 0
    freedom = find_freedom(program, sites)
    shared = shared_steps(freedom, sites)
    if not shared:
        return program, statistics, 0
    height, width, _ = image_size(shape, inputs)
    x = _paint(inputs, shape, min(_MOST, max(1, _PIXELS // (height * width))))
    factors = level(program, shared, freedom, x, share=share)
    by = {name: freedom.of(name, factors) for name in statistics.keys() & freedom.factor}
    return freedom.scaled(program, factors), scaled_statistics(statistics, by), len(shared)


def _paint(inputs: InputSpec, shape: tuple[int, ...], count: int = _PAINTED) -> Tensor:
    """Return a few dead leaves as model inputs."""
    images = painted(count, image_size(shape, inputs), torch.Generator().manual_seed(0))
    return to_tensor(images, inputs, shape=shape)


def settle(
    student: Student,
    teacher: Program,
    batches: Iterable[Tensor],
    *,
    spec: PrepareSpec,
    expected: Mapping[str, Expected],
) -> str:
    """Set ranges and biases of an initialised student in place; return what was done, in words.

    Args:
        student: every step is set.
        teacher: the float network that it is a copy of.
        batches: model inputs, for the means that statistics do not tell.
        spec: which parts are wanted.
        expected: see `Reworked`.
    """
    done = []
    if spec.ranges == "batchnorm":
        known = set_ranges(student, expected)
        rest = len(student.activations()) - known
        done.append(f"{known} ranges from BatchNormalization, {rest} from images")
    if spec.correct:
        names = list(dict.fromkeys(op.reads for op in student.operators()))
        means = {name: expected[name].mean for name in names if name in expected}
        missing = [name for name in names if name not in means]
        measured = measured_means(teacher, missing, batches) if missing else {}
        correct_biases(student, {**means, **measured})
        done.append(
            f"biases corrected, means of {len(means)} values from BatchNormalization,"
            f" {len(measured)} from images"
        )
    return "; ".join(done)
