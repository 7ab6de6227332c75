"""Stand-ins for BatchNormalization statistics where a file has none.

Folding BatchNormalization into the weights loses its statistics for good. What dead leaves make of
every Conv is the next best thing: means and variances of the right order, since photographs and
dead leaves share their spectrum. Optimised images are held near these while the class term moves
them; without any anchor they drift three times as far from what the network was trained on
(measured on a network whose statistics were hidden).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.convert.program import Program
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.sites import ChannelStatistics
from dfqonnx.synth.pixels import to_tensor
from dfqonnx.synth.statistics import moments

IMAGES = 256
VALUES = 2**22  # pixels of all images together


@torch.no_grad()
def pseudo_statistics(
    teacher: Program, images: Tensor, inputs: InputSpec, *, batch: int, device: torch.device
) -> dict[str, ChannelStatistics]:
    """Return mean and variance per channel of every Conv's output on uint8 images (N, H, W, C).

    Args:
        teacher: the float network.
        images: procedural images; the first few hundred are enough.
        inputs: how pixels become the teacher's tensor.
        batch: images shown at once.
        device: where to compute.
    """
    names = tuple(str(step.outputs[0]) for step in teacher.steps if step.op == "Conv")
    net = Net(teacher, taps=names, outputs=(), channels_last=True).to(device)
    count = max(8, min(IMAGES, len(images), VALUES // prod(images.shape[1:])))
    first = {name: torch.zeros(()) for name in names}  # sums of E[y] and E[y^2]
    second = {name: torch.zeros(()) for name in names}
    for part in torch.split(images[:count], batch):
        _, taps = net(to_tensor(part.to(device), inputs))
        for name, value in taps.items():
            mean, variance = moments(value)
            first[name] = first[name] + (mean * len(part)).cpu()
            second[name] = second[name] + ((variance + mean.square()) * len(part)).cpu()
    return {
        name: ChannelStatistics(
            mean=(first[name] / count).numpy(),
            variance=(second[name] / count - (first[name] / count).square()).clamp_min(0).numpy(),
        )
        for name in names
    }
