"""The last layers anew, once all before them is trained.

What a last layer reads no longer changes, and nothing reads what it writes: the codes, steps and
bias that come closest to the teacher's outputs have a closed form (`ptq/gptq`), over
all images at once. Training by small batches leaves a walk of half a code in its weights, each of
which meets few images that tell something about it.

Least squares on logits is what distillation is at high T (Hinton et al., 2015, section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.distill.agreement import Agreement
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.ptq.gptq import LARGEST, SampledPositions, is_matrix_product, set_solution

MOST = 2**24  # numbers kept of one layer's inputs, or outputs, over all images


@torch.no_grad()
def refit_output_layer(
    student: Student,
    teacher: Program,
    images: Iterable[Tensor],
    *,
    batches: int,
    damping: Iterable[float],
    agreement: Callable[[], Agreement],
    seed: int,
) -> Agreement:
    """Solve the last layers in place, near the teacher's, where that agrees better.

    Args:
        student: trained, its parameters its own again.
        teacher: the float program.
        images: model inputs, in batches.
        batches: how many.
        damping: candidates, see `gptq`.
        agreement: measures `student` as it stands, on images that are not among `images`.
        seed: of the positions that are looked at.

    Returns:
        the agreement of the student as it was left.
    """
    best, kept = agreement(), student.save_state()
    last = last_layers(student, teacher)
    if not last or not batches:
        return best
    looks = [_LayerInputs(op, teacher, MOST // batches) for op in last]
    generator = torch.Generator().manual_seed(seed)
    _pass(student, teacher, looks, images=images, generator=generator)
    for d in damping:
        for look in looks:
            look.op.weight.copy_(teacher.tensors[look.op.site.weight])
            set_solution(look.op, torch.cat(look.x, 2), torch.cat(look.y, 2), damping=d)
        found = agreement()
        if found.better_than(best):
            best, kept = found, student.save_state()
    student.load_state(kept)
    return best


def last_layers(student: Student, teacher: Program) -> list[QuantizedLayer]:
    """Return the matrix products behind which nothing but shapes changes up to the targets."""
    ends, made = set(teacher.training_outputs), {str(s.outputs[0]): s for s in teacher.steps}
    for step in reversed(teacher.steps):
        if has_trait(step.op, Trait.REARRANGES_AXES) and ends & {
            str(name) for name in step.outputs
        }:
            ends.add(str(step.inputs[0]))
    last = {made[name].node for name in ends if name in made}
    return [
        op
        for op in student.operators()
        if op.site.node in last
        and op.fan_in <= LARGEST
        and is_matrix_product(op.site, op.attributes, op.weight)
    ]


class _LayerInputs:
    """What one layer reads, (G, M, P) by batch, and what the teacher answers, (G, O/g, P)."""

    def __init__(self, op: QuantizedLayer, teacher: Program, most: int) -> None:
        self.op, self.name = op, str(teacher.step(op.site.node).outputs[0])
        groups = int(op.attributes.get("group", 1))
        self.count = max(1, most // max(op.fan_in * groups, op.weight.shape[op.site.axis]))
        self.x: list[Tensor] = []
        self.y: list[Tensor] = []

    def add(self, value: Tensor, wanted: Tensor, generator: torch.Generator) -> None:
        """Keep random positions of a batch."""
        op = self.op
        at = SampledPositions(op.site, op.attributes, wanted, count=self.count, generator=generator)
        self.x.append(at.inputs(value, op.weight))
        self.y.append(at.outputs(wanted))


def _pass(
    student: Student,
    teacher: Program,
    looks: list[_LayerInputs],
    *,
    images: Iterable[Tensor],
    generator: torch.Generator,
) -> None:
    target = ProgramModule(teacher, taps=tuple(look.name for look in looks), channels_last=True)
    target.to(next(student.parameters()).device)
    wanted: dict[str, Tensor] = {}

    def watch(look: _LayerInputs) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda _, values: look.add(values[0], wanted[look.name], generator)

    hooks = [look.op.register_forward_pre_hook(watch(look)) for look in looks]
    try:
        for x in images:
            wanted.update(target(x)[1])
            student(x)
    finally:
        for hook in hooks:
            hook.remove()
