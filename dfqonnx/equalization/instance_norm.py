"""Channels in front of an InstanceNormalization, brought to one scale.

    IN(s x + t) = IN(x)      for every channel, s > 0, where var >> epsilon

so a Conv that only an InstanceNormalization reads may make its channels of equal spread and mean 0:

    W'_c = s_c W_c      b'_c = s_c (b_c - mean_c)      s_c = (median of deviations) / deviation_c

The network's outputs stay as they are. One scale for the whole tensor then serves all channels:
without it, a channel of a tenth of the tensor's range keeps 25 of 255 levels, and normalization
brings its rounding up to the others' size.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.fakequant.capture import ProgramValues

MARGIN = 100.0  # of epsilon: variances that may be scaled, before and after
_SMALLEST = 1e-12


@torch.no_grad()
def normalize_before_instance_norm(program: Program, x: Tensor) -> tuple[Program, int]:
    """Return the program with channels of one spread on inputs `x`, and how many Conv changed."""
    convs = find_normalized_convs(program)
    names = [str(conv.outputs[0]) for conv, _ in convs]
    values = ProgramValues(program, names, x.device)(x) if convs else {}
    tensors = dict(program.tensors)
    for (conv, norm), name in zip(convs, names, strict=True):
        axes = [axis for axis in range(values[name].dim()) if axis != 1]
        value = values[name].double()
        mean, variance = value.mean(axes), value.var(axes, correction=0)  # (C,)
        floor = MARGIN * float(norm.attributes.get("epsilon", 1e-5))
        scale = scale_factors(variance, floor).cpu()
        weight, bias = str(conv.inputs[1]), str(conv.inputs[2])
        shape = (-1, *[1] * (tensors[weight].dim() - 1))
        tensors[weight] = (tensors[weight].double() * scale.view(shape)).float()
        tensors[bias] = ((tensors[bias].double() - mean.cpu()) * scale).float()
    return replace(program, tensors=tensors), len(convs)


def scale_factors(variance: Tensor, floor: float) -> Tensor:
    """Return s (C,): 1 where a variance is too near epsilon to be touched."""
    sound = variance > floor
    if not bool(sound.any()):
        return torch.ones_like(variance)
    wanted = variance[sound].median().clamp_min(floor)
    return torch.where(sound, (wanted / variance.clamp_min(_SMALLEST)).sqrt(), 1.0)


def find_normalized_convs(program: Program) -> list[tuple[OpCall, OpCall]]:
    """Return every (Conv, InstanceNormalization) of which the second alone reads the first."""
    readers = program.readers()
    returned = {*program.outputs, *program.training_outputs}
    found = []
    for step in program.steps:
        output = str(step.outputs[0])
        read = readers.get(output, [])
        constant = len(step.inputs) == 3 and all(n in program.tensors for n in step.inputs[1:])
        if step.op != "Conv" or not constant or output in returned or len(read) != 1:
            continue
        if read[0].op == "InstanceNormalization" and read[0].inputs[0] == output:
            found.append((step, read[0]))
    return found
