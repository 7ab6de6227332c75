"""Layer-wise reconstruction in closed form: weights that answer quantized inputs as the teacher.

With x the student's (quantized) inputs of a node and y the teacher's outputs at the same positions,
both less their means, H = x x^T and damping d = `damping` mean diag H:

    refit      W* = W + (y x^T - W H) (H + d I)^-1               least squares, held near W
    steps      s = argmin_s sum diag(H) (W* - W')^2              per channel, over clipping ratios
    rounding   column by column, largest diag H first; the error of a column is spread over those
               still free: W_j -= e_i U_ij / U_ii, U^T U = (H + d I)^-1
    bias       b = mean y - W' mean x

Sources: Hassibi and Stork, "Second order derivatives for network pruning", 1993, for the spreading;
Frantar et al., "GPTQ", 2023, for rounding with one Cholesky factor. Nodes are taken in order of
execution, each seeing what the ones before it have become: one pass over one batch. Nodes with more
than `LARGEST` inputs per output keep their plain rounding: H would not fit into memory.

A weighted node as a matrix product, at sampled positions.

y = W x + b with x (G, M, P) the inputs that P output positions see in each of G groups,
M = I/g kH kW for a Conv and the inner size for Gemm and MatMul; W (G, O/g, M); y (G, O/g, P).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.ops.window import padded, resolve
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import WeightQuantizer
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student


def is_matrix_product(site: WeightQuantizer, attributes: Mapping[str, Any], weight: Tensor) -> bool:
    """Tell whether the node is a product of the kind this module can write down."""
    if site.op == "Conv":
        return weight.dim() == 4
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
    inner_first = site.axis == (0 if attributes.get("transB") else 1)  # x W, not W x
    return weight.dim() == 2 and plain and inner_first and not attributes.get("transA")


class SampledPositions:
    """P random output positions of one node, the same for every tensor of that batch.

    Args:
        site: the node.
        attributes: of the node.
        groups: 1 but for a grouped Conv.
        output: (N, O, H, W) of a Conv, or (..., O).
        count: P.
        generator: CPU randomness.
    """

    def __init__(
        self,
        site: WeightQuantizer,
        attributes: Mapping[str, Any],
        output: Tensor,
        *,
        count: int,
        generator: torch.Generator,
    ) -> None:
        self.site, self.attributes = site, attributes
        self.groups = int(attributes.get("group", 1)) if site.op == "Conv" else 1
        self.shape = output.shape
        rows = output.numel() // output.shape[1 if site.op == "Conv" else -1]
        chosen = torch.randperm(rows, generator=generator)[:count]
        self.rows = chosen.to(output.device)  # (P,)

    def outputs(self, y: Tensor) -> Tensor:
        """Return y at the positions, (G, O/g, P)."""
        if self.site.op == "Conv":
            n, h, w = self._split()
            picked = y[n, :, h, w]  # (P, O)
        else:
            picked = y.flatten(0, -2)[self.rows]  # (P, O)
        return picked.t().reshape(self.groups, -1, len(self.rows))

    def inputs(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return what the positions see of `x`, (G, M, P)."""
        if self.site.op != "Conv":
            return x.flatten(0, -2)[self.rows].t()[None]
        names = ("strides", "pads", "dilations")
        given = {name: self.attributes.get(name) for name in names}
        window = resolve(
            tuple(x.shape[2:]),
            tuple(weight.shape[2:]),
            auto_pad=self.attributes.get("auto_pad", "NOTSET"),
            **given,
        )
        x = padded(x, window.begin, window.end)
        n, h, w = self._split()
        across = [torch.arange(k, device=x.device) * d for k, d in self._steps(window)]
        rows = h[:, None, None] * window.strides[0] + across[0][None, :, None]  # (P, kH, 1)
        columns = w[:, None, None] * window.strides[1] + across[1][None, None, :]  # (P, 1, kW)
        seen = x[n[:, None, None], :, rows, columns]  # (P, kH, kW, C)
        return seen.permute(3, 1, 2, 0).reshape(self.groups, -1, len(n))

    @staticmethod
    def _steps(window: Any) -> list[tuple[int, int]]:
        return list(zip(window.kernel, window.dilations, strict=True))

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        _, _, height, width = self.shape
        image, place = self.rows // (height * width), self.rows % (height * width)
        return image, place // width, place % width


WITHIN = 0.45  # of a step: safely inside the rounding interval
LARGEST = 8192
LEAST_POSITIONS, MOST_POSITIONS = 4096, 16384


class ActivationCapture(nn.Module):
    """Keeps a value at random positions and passes it on."""

    def __init__(self, op: QuantizedLayer, generator: torch.Generator) -> None:
        super().__init__()
        self.op, self.generator = (op,), generator

    def forward(self, y: Tensor) -> Tensor:
        op = self.op[0]
        count = min(MOST_POSITIONS, max(LEAST_POSITIONS, 8 * op.fan_in))
        self.positions = SampledPositions(
            op.site, op.attributes, y, count=count, generator=self.generator
        )
        self.seen = self.positions.outputs(y)
        return y


@torch.no_grad()
def gptq(
    student: Student,
    teacher: Program,
    batch: Tensor,
    *,
    generator: torch.Generator,
    damping: float = 0.01,
) -> None:
    """Set weights, weight steps and biases of an initialized student in place.

    Args:
        student: its activation steps are set and stay.
        teacher: the float program.
        batch: model inputs.
        generator: CPU randomness, for positions.
        damping: how firmly the weights are held; larger trusts the batch less.
    """
    looks = {}
    for op in student.operators():
        if op.fan_in <= LARGEST and is_matrix_product(op.site, op.attributes, op.weight):
            looks[op.site.node] = ActivationCapture(op, generator)
    after = {str(teacher.step(node).outputs[0]): look for node, look in looks.items()}
    net = ProgramModule(teacher, after=after, outputs=teacher.training_outputs, channels_last=True)
    net.to(batch.device)(batch)
    hooks = [
        op.register_forward_pre_hook(_settle(looks[op.site.node], damping))
        for op in student.operators()
        if op.site.node in looks
    ]
    try:
        student(batch)
    finally:
        for hook in hooks:
            hook.remove()


def _settle(look: ActivationCapture, damping: float) -> Callable[[Any, tuple[Tensor, ...]], None]:
    def hook(op: Any, values: tuple[Tensor, ...]) -> None:
        x = look.positions.inputs(values[0], op.weight)  # (G, M, P)
        set_solution(op, x, look.seen, damping=damping)
        del look.seen

    return hook


def set_solution(op: QuantizedLayer, x: Tensor, y: Tensor, *, damping: float) -> None:
    """Give a node the weights, steps and bias that `solve` finds.

    Args:
        op: the node; its weights are what the solution is held near.
        x: what it reads, (G, M, P).
        y: what is wanted of it, (G, O/g, P).
        damping: see the module.
    """
    matrix = _as_matrix(op.weight, op.site.axis, x.shape[0])
    found = solve(matrix, x, y, op.site.grid.limits, damping=damping)
    weight = _as_weight(found.latent(), op.weight, op.site.axis)
    op.set(weight, found.steps.reshape(-1), found.bias.reshape(-1))


def _as_matrix(weight: Tensor, axis: int, groups: int) -> Tensor:
    """Return (G, O/g, M)."""
    rows = weight.movedim(axis, 0).reshape(weight.shape[axis], -1)
    return rows.reshape(groups, -1, rows.shape[1])


def _as_weight(matrix: Tensor, weight: Tensor, axis: int) -> Tensor:
    rows = matrix.reshape(weight.shape[axis], -1)
    moved = weight.movedim(axis, 0)
    return rows.reshape(moved.shape).movedim(0, axis)


@dataclass(frozen=True)
class Solution:
    """One reconstructed node.

    Attributes:
        codes: (G, O, M) integers.
        steps: (G, O, 1).
        bias: (G, O).
        refit: (G, O, M) the least-squares weights before rounding.
    """

    codes: Tensor
    steps: Tensor
    bias: Tensor
    refit: Tensor

    def weight(self) -> Tensor:
        """Return what the codes stand for."""
        return self.codes * self.steps

    def latent(self) -> Tensor:
        """Return the point nearest the refit that still rounds to the codes.

        Training starts from it: a weight that was close to another code can get there.
        """
        off = (self.refit / self.steps - self.codes).clamp(-WITHIN, WITHIN)
        return (self.codes + off) * self.steps


def solve(
    weight: Tensor, x: Tensor, y: Tensor, limits: tuple[int, int], *, damping: float
) -> Solution:
    """Return the quantized weight and the bias of one node.

    Args:
        weight: (G, O, M).
        x: quantized inputs, (G, M, P).
        y: wanted outputs, (G, O, P).
        limits: smallest and largest code.
        damping: see the module.
    """
    weight, x, y = weight.double(), x.double(), y.double()
    x_mean, y_mean = x.mean(2, keepdim=True), y.mean(2, keepdim=True)
    x, y = x - x_mean, y - y_mean
    hessian = x @ x.transpose(1, 2) / x.shape[2]  # (G, M, M)
    diagonal = hessian.diagonal(dim1=1, dim2=2)  # (G, M)
    ridge = damping * diagonal.mean(1).clamp_min(1e-12)  # (G,)
    held = hessian + ridge[:, None, None] * torch.eye(
        hessian.shape[1], dtype=hessian.dtype, device=x.device
    )
    cross = y @ x.transpose(1, 2) / x.shape[2]  # (G, O, M)
    target = weight + torch.linalg.solve(held, (cross - weight @ hessian), left=False)
    steps = _steps(target, diagonal + ridge[:, None], limits)  # (G, O, 1)
    codes = _round(target, held, steps, limits)
    bias = (y_mean - (codes * steps) @ x_mean).squeeze(2)
    return Solution(codes.float(), steps.float(), bias.float(), target.float())


def _steps(weight: Tensor, importance: Tensor, limits: tuple[int, int]) -> Tensor:
    """Return the steps (G, O, 1) of least weighted squared error."""
    widest = (weight.amax(2) / limits[1]).maximum(weight.amin(2) / limits[0])
    widest = widest.clamp_min(1e-8)[..., None]  # (G, O, 1)
    best, chosen = torch.full_like(widest, torch.inf), widest
    for k in range(61):
        step = widest * (0.25 + 0.75 * k / 60)
        back = (weight / step).round_().clamp_(*limits).mul_(step)
        error = ((back - weight).square_() * importance[:, None]).sum(2, keepdim=True)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, step, chosen)
    return chosen


def _round(weight: Tensor, held: Tensor, steps: Tensor, limits: tuple[int, int]) -> Tensor:
    """Return codes (G, O, M), rounding column by column and spreading each error."""
    order = held.diagonal(dim1=1, dim2=2).argsort(1, descending=True)  # (G, M)
    back = order.argsort(1)
    held = held.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None, :], 2)
    free = weight.take_along_dim(order[:, None, :], 2).clone()  # (G, O, M)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(held))
    upper = torch.linalg.cholesky(inverse, upper=True)  # (G, M, M)
    codes = torch.empty_like(free)
    for column in range(free.shape[2]):
        value = free[:, :, column]
        code = (value / steps[..., 0]).round().clamp(*limits)
        codes[:, :, column] = code
        error = (value - code * steps[..., 0]) / upper[:, column, column, None]  # (G, O)
        free[:, :, column + 1 :] -= error[..., None] * upper[:, None, column, column + 1 :]
    return codes.take_along_dim(back[:, None, :], 2)
