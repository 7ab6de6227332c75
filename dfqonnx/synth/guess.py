"""How a model wants its images, when nobody says.

1. The model's own metadata may say (`METADATA_KEY`).
2. With BatchNormalization statistics: every preset feeds the same dead leaves to the model; the one
   whose activations come closest to the remembered statistics wins. The first layers tell most:
   they see the pixels' scale almost directly.
3. Without: trained layers keep their pre-activations on the scale of their own biases, and not far
   off centre. On the first layer, with s the root mean square of the channels' standard deviations
   and b the standard deviation of the bias, the preset with the least
       |log(s / b)| + median over channels of |mean| / standard deviation
   wins. This tells pixels in 0..255 from normalised ones; two presets that differ by a few percent
   it cannot tell apart, and the first layer of a network without biases tells nothing.

Layout and channels come from the input's shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import METADATA_KEY, PRESETS, InputSpec
from dfqonnx.spec.sites import ChannelStatistics
from dfqonnx.synth.leaves import leaves
from dfqonnx.synth.pixels import image_size, to_tensor
from dfqonnx.synth.statistics import Targets, moments

PROBES = 64  # images shown under each preset
PROBE_VALUES = 2**22  # pixels of all of them together
USUAL = ("imagenet", "zero-one", "minus-one-one", "cifar10", "cifar100", "raw")
NOISE = InputSpec("noise", 255.0 / 8, (4.0,), (1.0,), "NHWC", "gray")  # pixels span -4..4


@dataclass(frozen=True)
class Guess:
    """An input specification and where it comes from.

    Attributes:
        inputs: the specification, fitted to the model's layout and channels.
        reason: one sentence for the user.
        certain: whether the model itself said so.
    """

    inputs: InputSpec
    reason: str
    certain: bool


def guess_inputs(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    *,
    shape: tuple[int, ...],
    metadata: Mapping[str, str],
    seed: int,
) -> Guess:
    """Return the likeliest input specification of a model.

    Args:
        teacher: the float network.
        statistics: what BatchNormalization knew, by value name; empty where it is gone.
        shape: of one input, without the batch axis, in the model's layout.
        metadata: the file's own metadata properties.
        seed: of the images shown to the model.

    Raises:
        UsageError: the metadata holds a specification that cannot be read.
    """
    if METADATA_KEY in metadata:
        return Guess(_recorded(metadata[METADATA_KEY]), "recorded in the model's metadata", True)
    if len(shape) != 3:
        return Guess(NOISE, "the model reads no image; values between -4 and 4 are assumed", False)
    candidates = _candidates(shape)
    if len(candidates) == 1:
        return Guess(candidates[0], "the only preset that fits the input's shape", False)
    images = _probes(shape, candidates[0], seed)
    if statistics:
        distances = [_distance(teacher, statistics, images, spec) for spec in candidates]
        best = min(range(len(candidates)), key=distances.__getitem__)
        spec = candidates[best]
        reason = "under it procedural images come closest to the BatchNorm statistics"
        return Guess(spec, f"{reason} ({distances[best]:.3f})", False)
    oddities = [_oddity(teacher, images, spec) for spec in candidates]
    best = min(range(len(candidates)), key=oddities.__getitem__)  # the first of equals
    if not math.isfinite(oddities[best]):
        return Guess(candidates[0], "the usual one for an input of this form", False)
    reason = "under it the first layer's values are most like those of a trained layer"
    return Guess(candidates[best], reason, False)


def _recorded(text: str) -> InputSpec:
    try:
        values = json.loads(text)
        return InputSpec.parse(values, name=str(values.get("name", "metadata")))
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"the model's metadata {METADATA_KEY} cannot be read ({error}); give --preprocess"
        ) from None


def _candidates(shape: tuple[int, ...]) -> list[InputSpec]:
    """Return the presets that fit the shape, the most usual first."""
    found = []
    for name in USUAL:
        spec = PRESETS[name].fitted(shape)
        try:
            channels = image_size(shape, spec)[2]
        except UsageError:
            continue
        found.append(replace(spec, channels="gray") if channels == 1 else spec)
    return found


def _probes(shape: tuple[int, ...], spec: InputSpec, seed: int) -> Tensor:
    height, width, channels = image_size(shape, spec)
    count = max(8, min(PROBES, PROBE_VALUES // (height * width * channels)))
    generator = torch.Generator().manual_seed(seed)
    chunks = leaves(count, height=height, width=width, channels=channels, generator=generator)
    return torch.cat(list(chunks))


@torch.no_grad()
def _distance(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    spec: InputSpec,
) -> float:
    targets = Targets(statistics, images.device)
    _, taps = Net(teacher, taps=tuple(targets.mean))(to_tensor(images, spec))
    distance = targets.loss(taps).item()
    return distance if math.isfinite(distance) else math.inf


@torch.no_grad()
def _oddity(teacher: Program, images: Tensor, spec: InputSpec) -> float:
    """Return how unlike a trained layer's the first layer's values are; infinite without a bias."""
    for step in teacher.steps:
        if step.op in ("Conv", "Gemm") and len(step.inputs) > 2:
            break
    else:
        return math.inf
    name, bias = str(step.outputs[0]), teacher.tensors.get(step.inputs[2] or "")
    if bias is None or bias.numel() < 2 or not bool(bias.any()):
        return math.inf
    _, taps = Net(teacher, taps=(name,), outputs=())(to_tensor(images, spec))
    mean, variance = moments(taps[name])
    deviation = variance.sqrt().clamp_min(1e-12)
    scale = variance.mean().sqrt() / bias.std()
    oddity = scale.log().abs() + (mean.abs() / deviation).median()
    return oddity.item() if bool(torch.isfinite(oddity)) else math.inf
