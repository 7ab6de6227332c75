"""Training a QuantizedOp whose rounding sets in gradually, with its mean held.

With latent codes v = w / s, kept in place of the weight, and a width u that falls from 1 to 0:

    code    c = floor v + clip((v - floor v - 1/2) / u + 1/2, 0, 1)        u = 1: v;  u = 0: round v
    weight  w' = s c          dw'/ds = c;   dw'/dv = s on the ramp and min(u, 0.1) beside it, else 0
    bias    b' = b + 0.1 d t + <w0', P> - <w', P>,    P = E[patches of x],   d the output's spread

- Weights go from real numbers to codes while all others make up for it; a rounding with a
  straight-through gradient flips codes to and fro instead, and leads depthwise networks away.
- Where gradients hold a code between two whole numbers, a pull towards the nearer one grows as u
  falls, v += rate (1 - u) / 2u (c - floor v - 1/2): else those left are all rounded at the end.
- What is beside the ramp can still come back, and less of it as u falls. Below u = 0.15 the rate of
  codes falls with u: where the ramp narrows more slowly than Adam strides, codes walk to and fro
  across it at the end of a long schedule, in bulk.
- s is a gain of its channel. As a step under weights that stand on its grid (LSQ) it has next to no
  gradient (round(w/s) - w/s), and Adam makes full strides out of the noise in it.
- The trained offset t starts at 0. Whatever weights and gains do, the mean of the output stays:
  without it a change of weights shifts means, which are large against what varies (inputs behind a
  Relu are positive). BatchNormalization does this where it is not folded.

v is in codes, t in tenths of a deviation, log s is relative: one rate suits every layer and file.
P is the derivative of the outputs' mean with respect to the weight, so no geometry is needed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dfqonnx.core.quantization import quantize
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student

BESIDE = 0.1  # of a code, the widest margin from where a weight can still come back
SLOW = 0.15  # u from where on the rate of codes falls
PULL = 0.5  # no different from 0.25 and 1 within noise
OFFSET = 0.1  # of an output's deviation, per unit of the trained offset
SURE = 0.49  # of a step: what is stored rounds to its code


class RoundingRamp(NamedTuple):
    """Least and largest code, and u."""

    low: int
    high: int
    width: float


class _Soft(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, step: Tensor, ramp: RoundingRamp) -> Tensor:
        low, high, width = ramp
        bounded = latent.clamp(low, high)
        inside = None
        if width > 0.0:
            base = bounded.floor()
            middle = (bounded - base).sub_(0.5)
            reach = 0.5 * width + min(width, BESIDE)
            inside = (middle.abs() <= reach) & ((latent - bounded).abs() <= 0.5)
            code = base.add_(middle.div_(width).add_(0.5).clamp_(0.0, 1.0)).clamp_(low, high)
        else:
            code = bounded.round_()
        ctx.save_for_backward(code, step, *(() if inside is None else (inside,)))
        return code * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        code, step, *inside = ctx.saved_tensors
        axes = [axis for axis in range(code.dim()) if step.shape[axis] == 1]
        slope = gradient * code
        to_step = slope.sum(axes, keepdim=True) if axes else slope
        if not inside:  # no gradient is not a gradient of 0: Adam's momentum would flip codes
            return None, to_step, None
        return (gradient * step).mul_(inside[0]), to_step, None


def slowed(width: float) -> float:
    """Return the rate of codes at a width above 0, relative to that of everything else."""
    return min(1.0, width / SLOW)


def soft(latent: Tensor, step: Tensor, ramp: RoundingRamp) -> Tensor:
    """Return w'.

    Args:
        latent: v, of a weight's shape.
        step: s, of the same rank, size 1 on every axis but the channels'.
        ramp: the codes that there are, and how wide the way between two of them is.
    """
    return _Soft.apply(latent, step, ramp)  # type: ignore[no-any-return, no-untyped-call]


class SoftRoundedLayer(nn.Module):
    """The trained form of one node.

    Attributes:
        width: u.
        latent: v, of the weight's shape.
        offset: t, (O,); None for a node without bias.
    """

    def __init__(self, op: QuantizedLayer, patch: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self._op = (op,)  # a tuple: its parameters stay its own
        self.width = 1.0
        self._axes = [axis for axis in range(op.weight.dim()) if axis != op.site.axis]
        weight = op.rounded_weight().detach()
        self.latent = nn.Parameter(op.weight.detach() / op.steps().detach().view(op.step_shape))
        self.offset: nn.Parameter | None = None
        if op.bias is not None:
            self.offset = nn.Parameter(torch.zeros_like(op.bias))
            self.register_buffer("_unit", OFFSET * deviation.view(op.bias.shape))
            self.register_buffer("_patch", patch)
            self.register_buffer("_start", op.bias.detach() + self._mean(weight))

    def _mean(self, weight: Tensor) -> Tensor:
        """Return <w', P>, of the bias's shape."""
        unit = self.get_buffer("_unit")
        return (weight * self.get_buffer("_patch")).sum(self._axes).view_as(unit)

    def forward(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias, the bias not yet on its grid."""
        op = self._op[0]
        ramp = RoundingRamp(*op.site.grid.limits, self.width)
        weight = soft(self.latent, op.steps().view(op.step_shape), ramp)
        if self.offset is None:
            return weight, None
        moved = self.get_buffer("_unit") * self.offset - self._mean(weight)
        return weight, self.get_buffer("_start") + moved

    @torch.no_grad()
    def pull(self, rate: float) -> None:
        """Move codes between two whole numbers towards the nearer one.

        Args:
            rate: the learning rate of weights.
        """
        u = self.width
        if u > 0.0:
            middle = (self.latent - self.latent.floor()).sub_(0.5)  # u (c - floor v - 1/2)
            left = middle.abs() < 0.5 * u
            self.latent.add_(middle.mul_(left), alpha=PULL * rate * (1.0 - u) / u**2)

    @torch.no_grad()
    def settle(self) -> None:
        """Write weight and bias back to the node, which rounds them as this does at width 0."""
        op = self._op[0]
        self.width = 0.0
        _, bias = self()
        one = torch.ones((), device=self.latent.device)
        code = quantize(self.latent, one, op.site.grid) - op.site.grid.zero_point
        latent = code + (self.latent - code).clamp_(-SURE, SURE)
        op.form = None
        op.weight.copy_(latent * op.steps().view(op.step_shape))
        if op.bias is not None:
            op.bias.copy_(bias)
        op.guard_bias()


class SoftRounding:
    """A student whose nodes train in this form until `settle`.

    Args:
        student: initialized; it starts from where it stands, at width 1.
        batches: model inputs that tell means and deviations.
    """

    def __init__(self, student: Student, batches: Iterable[Tensor]) -> None:
        self._student = student
        self._forms = []
        for op, patch, deviation in _outputs(student, batches):
            op.form = SoftRoundedLayer(op, patch, deviation)
            self._forms.append(op.form)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return what is trained, by kind as `Student.parts` has it."""
        return {
            "weights": [form.latent for form in self._forms],
            "biases": [form.offset for form in self._forms if form.offset is not None],
            "steps": self._student.parts()["steps"],
        }

    def set_width(self, width: float) -> None:
        """Set u of all nodes: 1 rounds nothing, 0 all."""
        for form in self._forms:
            form.width = width

    def pull(self, rate: float) -> None:
        """Pull every code that is left between two whole numbers; see the module."""
        for form in self._forms:
            form.pull(rate)

    def settle(self) -> None:
        """Give the student its own weights and biases back."""
        for form in self._forms:
            form.settle()


def _outputs(
    student: Student, batches: Iterable[Tensor]
) -> list[tuple[QuantizedLayer, Tensor, Tensor]]:
    """Return every node with P and the deviation of its output per channel, means over batches."""
    patches: dict[str, list[Tensor]] = {}
    deviations: dict[str, list[Tensor]] = {}

    def watch(op: Any, values: tuple[Tensor, ...]) -> None:
        with torch.enable_grad():
            weight = op.rounded_weight().detach().requires_grad_()
            out = op.run(values, weight, None if op.bias is None else op.bias.detach())
            axes = [axis for axis in range(out.dim()) if axis != 1]
            (patch,) = torch.autograd.grad(out.mean(axes).sum(), weight)
        patches.setdefault(op.site.node, []).append(patch)
        deviations.setdefault(op.site.node, []).append(out.detach().std(axes, correction=0))

    hooks = [op.register_forward_pre_hook(watch) for op in student.operators()]
    try:
        with torch.no_grad():
            for x in batches:
                student(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (op, torch.stack(patches[op.site.node]).mean(0), _mean(deviations[op.site.node]))
        for op in student.operators()
        if op.site.node in patches
    ]


def _mean(deviations: list[Tensor]) -> Tensor:
    """Return the mean over batches; a channel that hardly varies counts as a hundredth of all."""
    mean = torch.stack(deviations).mean(0)
    return mean.maximum(0.01 * mean.mean())
