"""How large a network is, counted by passing one blank image through its program.

    multiply_adds    numbers a weighted node writes, times those of its weight for each of them
    values           numbers that all nodes write
    live             numbers alive at once, at most: a value lives until its last reader has run

Weights and what is computed on the host from shapes are not counted among values.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.run_counts import NetworkSize
from dfqonnx.graph.op_traits import Trait, has_trait


@torch.no_grad()
def measure_size(
    program: Program, shape: tuple[int, ...], *, quantized: int = 0, file_bytes: int = 0
) -> NetworkSize:
    """Return the size of a network for one image of `shape`, without the batch axis.

    `quantized` are the values that pass activation quantizers, where they are known.
    """
    values: dict[str, Tensor] = {program.inputs[0]: torch.zeros(1, *shape)}
    last = {name: index for index, step in enumerate(program.steps) for name in step.reads()}
    written = work = 0
    alive = most = prod(shape)
    for index, step in enumerate(program.steps):
        found = step.evaluate(
            None if name is None else program.tensors.get(name, values.get(name))
            for name in step.inputs
        )
        values.update((name, x) for name, x in zip(step.outputs, found, strict=False) if name)
        added = sum(values[name].numel() for name in step.writes() if not program.is_host(name))
        written, alive = written + added, alive + added
        most = max(most, alive)
        work += _multiply_adds(step, values, program)
        for name in {*step.reads(), *step.writes()}:
            is_over = last.get(name, -1) <= index and name not in program.training_outputs
            if is_over and name in values:
                alive -= 0 if program.is_host(name) else values[name].numel()
                del values[name]
    return NetworkSize(
        multiply_adds=work,
        values=written,
        live=most,
        quantized=quantized,
        parameters=sum(tensor.numel() for tensor in program.tensors.values()),
        nodes=len(program.steps),
        pixels=prod(shape),
        file_bytes=file_bytes,
    )


def _multiply_adds(step: OpCall, values: dict[str, Tensor], program: Program) -> int:
    """Return the multiply-adds of a step; 0 without a weight."""
    if not has_trait(step.op, Trait.WEIGHTED) or len(step.inputs) < 2:
        return 0
    weight, out = program.tensors.get(step.inputs[1] or ""), values.get(str(step.outputs[0]))
    if weight is None or out is None:
        return 0
    if step.op == "ConvTranspose":
        read = values.get(str(step.inputs[0]))
        return 0 if read is None else read.numel() * prod(weight.shape[1:])
    channels = out.shape[1] if step.op == "Conv" else out.shape[-1]
    return out.numel() * max(1, weight.numel() // max(1, channels))
