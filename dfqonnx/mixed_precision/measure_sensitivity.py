"""What each quantizer costs at each width: measured on the student, and estimated beside it.

Measured means that one quantizer is at work and all others are off, on held-out synthetic images:
those that the estimate of the drop reads (`evaluation/drop_estimate/fixed_images`), or structured
fields where a model reads no images. Activations get their ranges as in every run. Where measuring
would take far longer than it may (large pictures in, large pictures out), the second-order estimate
stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.sensitivity import QuantizerCost, Sensitivity
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.distill.losses import is_classification
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import certainty
from dfqonnx.evaluation.drop_estimate.saturating_loss import rank_correlation
from dfqonnx.fakequant.capture import capture
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student
from dfqonnx.mixed_precision.output_loss import (
    Outputs,
    describe_unit,
    join_batches,
    measure_loss,
    measure_noise,
    run_outputs,
)
from dfqonnx.mixed_precision.second_order import SecondOrderCosts
from dfqonnx.mixed_precision.separate_quantizers import (
    OutputShift,
    channel_axis,
    round_weight,
    rounding,
    turn_off,
    turned_on,
)
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
from dfqonnx.targets.profile import TARGETS

SECONDS = 60.0  # of the processor, that measuring is to take about; images are fewer for it
FEWEST, MOST = 8, 128  # images
TOO_LONG = 4.0  # times these seconds, from which on costs are only estimated
ESTIMATING = 2  # images that they are estimated on
CALIBRATION = 64  # images at most that ranges are set on
VALUES = 2**21  # pixels of a batch, and of all images for ranges
MULTIPLY_ADD_SECONDS, VALUE_SECONDS = 3e-11, 4e-9  # of a forward pass, about, on one core
SEED = 31_007  # of both, not one of a run
Key = tuple[str, int]


@dataclass(frozen=True)
class _Images:
    """Batches of model inputs, and the float outputs for them."""

    batches: tuple[Tensor, ...]
    outputs: tuple[Outputs, ...]

    @property
    def is_few(self) -> bool:
        """Whether they are so few that nothing is measured on them, but estimated."""
        return sum(map(len, self.batches)) < FEWEST

    @property
    def joined(self) -> Outputs:
        """The float outputs of all images."""
        return join_batches(self.outputs)


def measure_sensitivity(
    program: Program,
    plans: Sequence[QuantizationPlan],
    weight_bits: Sequence[int],
    *,
    inputs: InputFormat,
    progress: Progress,
    seconds: float = SECONDS,
) -> Sensitivity:
    """Return what every quantizer costs.

    Args:
        program: the float network, equalized.
        plans: one for each width of activations; quantizers of equal name and width count once.
        weight_bits: the widths of weights.
        inputs: what the network reads.
        progress: is told how far it is.
        seconds: of the processor that measuring may take, about; at least `FEWEST` images pass.
    """
    started = time.process_time()
    students = [_prepare(program, plan, inputs) for plan in plans]
    passes = len(students[0].layers()) * len(weight_bits) + sum(
        len(student.quantizers()) for student in students
    )
    batches = _choose_images(inputs, students[0], passes, seconds)
    images = _pass_images(students[0], batches)
    progress.start("sensitivity", passes)
    costs: list[QuantizerCost] = []
    seen: set[Key] = set()
    for student in students:
        if student is students[0]:
            costs += _measure_weights(student, weight_bits, images, progress=progress)
        costs += _measure_activations(student, images, seen, progress=progress)
    joined = images.joined
    return Sensitivity(
        costs=tuple(costs),
        images=sum(map(len, images.batches)),
        unit=describe_unit(joined),
        certainty=certainty(joined[0].cpu().numpy()) if is_classification(joined[0]) else None,
        rank_correlation=None if images.is_few else _correlate(costs),
        seconds=time.process_time() - started,
    )


def _prepare(program: Program, plan: QuantizationPlan, inputs: InputFormat) -> Student:
    """Return a student with calibrated ranges in which every quantizer is off."""
    student = Student(program, plan).eval()
    count = max(ESTIMATING, min(CALIBRATION, VALUES // int(np.prod(inputs.image_size))))
    pixels = _calibration_pixels(inputs, count)
    size = max(1, VALUES // 16 // int(np.prod(inputs.image_size)))
    student.initialize(inputs.to_tensor(part) for part in torch.split(pixels, size))
    turn_off(student)
    return student


def _calibration_pixels(inputs: InputFormat, count: int) -> Tensor:
    if inputs.is_image:
        generator = torch.Generator().manual_seed(SEED)
        return sample_dead_leaves(count, inputs.image_size, generator)
    rng = np.random.default_rng(SEED)
    return torch.from_numpy(np.concatenate(list(structured_fields(count, inputs.image_size, rng))))


@torch.no_grad()
def _choose_images(
    inputs: InputFormat, student: Student, passes: int, seconds: float
) -> tuple[Tensor, ...]:
    """Return batches of as many images as can be passed so often in the time.

    It follows from what the network computes, so that it is the same on every machine.
    """
    if inputs.is_image:
        families = make_fixed_images(inputs.image_size)
        pixels = np.stack(list(families.values()), 1)  # (N, 4, H, W, C): one of each in turn
        pixels = pixels.reshape(-1, *pixels.shape[2:])[:MOST]
    else:
        rng = np.random.default_rng(SEED + 1)
        pixels = np.concatenate(list(structured_fields(MOST, inputs.image_size, rng)))
    batch = max(1, min(32, VALUES // 4 // int(np.prod(inputs.image_size))))
    first = inputs.to_tensor(torch.from_numpy(pixels[:1]))
    values = student.count_activations(first)
    each = MULTIPLY_ADD_SECONDS * student.multiply_adds + VALUE_SECONDS * values
    if FEWEST * each * passes > TOO_LONG * seconds and not _has_classes(student, first):
        return torch.split(inputs.to_tensor(torch.from_numpy(pixels[:ESTIMATING])), 1)
    count = int(max(FEWEST, min(len(pixels), seconds / max(1e-9, each * passes))))
    kept = inputs.to_tensor(torch.from_numpy(np.ascontiguousarray(pixels[:count])))
    return torch.split(kept, batch)


@torch.no_grad()
def _has_classes(student: Student, x: Tensor) -> bool:
    return any(is_classification(output) for output in run_outputs(student, x))


@torch.no_grad()
def _pass_images(student: Student, batches: tuple[Tensor, ...]) -> _Images:
    return _Images(batches, tuple(run_outputs(student, x) for x in batches))


def _measure_weights(
    student: Student, weight_bits: Sequence[int], images: _Images, *, progress: Progress
) -> Iterator[QuantizerCost]:
    """Yield the costs of all weights at these widths."""
    target = TARGETS[student.plan.target]
    weights = {
        (layer.spec.node, bits): round_weight(layer, bits, target)
        for layer in student.layers()
        for bits in weight_bits
    }
    shifts = _measure_shifts(student, weights, images.batches)
    estimates = _estimate(SecondOrderCosts(student, weights, shifts), images)
    for layer in student.layers():
        for bits in weight_bits:
            key = (layer.spec.node, bits)
            loss = noise = estimates.get(key, 0.0)
            if not images.is_few:
                with rounding(layer, weights[key], shifts[key].mean):
                    loss, noise = _measure(student, images)
            progress.advance()
            yield QuantizerCost(
                kind="weight", name=key[0], tensor=key[0], bits=bits,
                loss=loss, noise=noise, estimated=estimates.get(key, 0.0),
            )  # fmt: skip


def _measure_activations(
    student: Student, images: _Images, seen: set[Key], *, progress: Progress
) -> Iterator[QuantizerCost]:
    """Yield the costs of the quantizers of a plan that were not `seen`."""
    estimates = _estimate(SecondOrderCosts(student, {}, {}), images)
    readers: dict[str, list[str]] = {}
    for spec in student.plan.weights:
        readers.setdefault(spec.input, []).append(spec.node)
    for quantizer in student.quantizers():
        key = (quantizer.spec.name, quantizer.spec.grid.bits)
        progress.advance()
        if key in seen:
            continue
        seen.add(key)
        loss = noise = estimates.get(key, 0.0)
        if not images.is_few:
            with turned_on(quantizer):
                loss, noise = _measure(student, images)
        yield QuantizerCost(
            kind="activation", name=key[0], tensor=quantizer.spec.tensor, bits=key[1],
            readers=tuple(readers.get(key[0], ())), loss=loss, noise=noise,
            estimated=estimates.get(key, 0.0),
        )  # fmt: skip


def _estimate(costs: SecondOrderCosts, images: _Images) -> Mapping[Key, float]:
    generator = torch.Generator().manual_seed(SEED)
    return costs.measure(images.batches, images.outputs, generator)


@torch.no_grad()
def _measure(student: Student, images: _Images) -> tuple[float, float]:
    """Return loss and noise of the student as it stands."""
    teacher = images.joined
    found = join_batches([run_outputs(student, x) for x in images.batches])
    return max(0.0, measure_loss(found, teacher)), max(0.0, measure_noise(found, teacher))


@torch.no_grad()
def _measure_shifts(
    student: Student, weights: Mapping[Key, Tensor], batches: Sequence[Tensor]
) -> Mapping[Key, OutputShift]:
    """Return by how much each rounded weight moves the mean of each channel of its output."""
    shifts = {key: OutputShift() for key in weights}

    def watch(layer: QuantizedLayer, values: tuple[Tensor, ...], output: Tensor) -> None:
        for key in shifts:
            if key[0] == layer.spec.node:
                change = layer.run(values, weights[key] - layer.weight, None)
                shifts[key].add(change, channel_axis(layer, output))

    with capture(student.layers(), after=watch):
        for x in batches if weights else ():
            student(x)
    return shifts


def _correlate(costs: Sequence[QuantizerCost]) -> float | None:
    """Return the rank correlation of measured and estimated losses."""
    pairs = [(cost.loss, cost.estimated) for cost in costs if cost.estimated > 0]
    if len(pairs) < 3:
        return None
    return rank_correlation([a for a, _ in pairs], [b for _, b in pairs])
