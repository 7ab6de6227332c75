"""GPTQ: weights in closed form that answer quantized inputs as the teacher answers its own.

With x the student's (quantized) inputs of a node and y the teacher's outputs at the same positions,
both less their means, H = x x^T and damping d = `damping` mean diag H:

    refit      W* = W + (y x^T - W H) (H + d I)^-1               least squares, held near W
    scales     s = argmin_s sum diag(H) (W* - W')^2              per channel, over clipping ratios
    rounding   W' near W* where inputs vary, from those scales on, see `code_search`
    bias       b = mean y - W' mean x

Source: Frantar et al., "GPTQ", 2023. Nodes are taken in order of
execution, each seeing what the ones before it have become: one pass over one batch. Nodes with more
than `MAX_FAN_IN` inputs per output keep their plain rounding: H would not fit into memory. Least
squares of few positions fit those alone (behind a global pooling there is one an image), so with
fewer than `ENOUGH` for each input there is no refit, W* = W.

A node is written as a matrix product at sampled positions, y = W x + b with x (G, M, P) the inputs
that P output positions see in each of G groups, M = I/g kH kW for a Conv and the inner size for
Gemm and MatMul; W (G, O/g, M); y (G, O/g, P).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.ops.window import padded, resolve
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import WeightQuantizer
from dfqonnx.fakequant.capture import Inputs, Observer, capture
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.scale_search import search_row_scales
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.code_search import round_columns, search_codes

MAX_FAN_IN = 8192
MIN_POSITIONS, MAX_POSITIONS = 4096, 16384
ENOUGH = 8  # positions per input of an output, below which there is no refit
WITHIN = 0.45  # of a scale: safely inside the rounding interval


def is_matrix_product(spec: WeightQuantizer, attributes: Mapping[str, Any], weight: Tensor) -> bool:
    """Whether the node is a product of the kind that this module can write down."""
    if spec.op == "Conv":
        return weight.dim() == 4
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
    inner_first = spec.axis == (0 if attributes.get("transB") else 1)  # x W, not W x
    return weight.dim() == 2 and plain and inner_first and not attributes.get("transA")


def can_refit(layer: QuantizedLayer) -> bool:
    """Whether `refit_layer` takes this layer."""
    fits = layer.fan_in <= MAX_FAN_IN
    return fits and is_matrix_product(layer.spec, layer.attributes, layer.weight)


class SampledPositions:
    """`count` random output positions of one node, the same for every tensor of that batch.

    `output` is (N, O, H, W) of a Conv, or (..., O).
    """

    def __init__(
        self,
        spec: WeightQuantizer,
        attributes: Mapping[str, Any],
        output: Tensor,
        *,
        count: int,
        generator: torch.Generator,
    ) -> None:
        self.spec, self.attributes = spec, attributes
        self.groups = int(attributes.get("group", 1)) if spec.op == "Conv" else 1
        self.shape = output.shape
        rows = output.numel() // output.shape[1 if spec.op == "Conv" else -1]
        chosen = torch.randperm(rows, generator=generator)[:count]
        self.rows = chosen.to(output.device)  # (P,)

    def outputs(self, y: Tensor) -> Tensor:
        """Return y at the positions, (G, O/g, P)."""
        if self.spec.op == "Conv":
            n, h, w = self._split()
            picked = y[n, :, h, w]  # (P, O)
        else:
            picked = y.flatten(0, -2)[self.rows]  # (P, O)
        return picked.t().reshape(self.groups, -1, len(self.rows))

    def inputs(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return what the positions see of `x`, (G, M, P)."""
        if self.spec.op != "Conv":
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
        across = [
            torch.arange(kernel, device=x.device) * dilation
            for kernel, dilation in zip(window.kernel, window.dilations, strict=True)
        ]
        rows = h[:, None, None] * window.strides[0] + across[0][None, :, None]  # (P, kH, 1)
        columns = w[:, None, None] * window.strides[1] + across[1][None, None, :]  # (P, 1, kW)
        seen = x[n[:, None, None], :, rows, columns]  # (P, kH, kW, C)
        return seen.permute(3, 1, 2, 0).reshape(self.groups, -1, len(n))

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        _, _, height, width = self.shape
        image, place = self.rows // (height * width), self.rows % (height * width)
        return image, place // width, place % width


@torch.no_grad()
def gptq(
    student: Student,
    teacher: Program,
    batch: Tensor,
    *,
    generator: torch.Generator,
    damping: float = 0.01,
) -> None:
    """Set weights, weight scales and biases of an initialized student in place.

    Its activation scales stay. `damping` is how firmly the weights are held; larger trusts the
    batch less.
    """
    layers = [layer for layer in student.layers() if can_refit(layer)]
    samples = _sample_outputs(layers, teacher, batch, generator)

    def refit(layer: QuantizedLayer, values: Inputs) -> None:
        positions, y = samples.pop(layer.spec.node)
        x = positions.inputs(values[0], layer.weight)  # (G, M, P)
        refit_layer(layer, x, y, damping=damping)

    with capture(layers, before=refit):
        student(batch)


def _sample_outputs(
    layers: list[QuantizedLayer], teacher: Program, batch: Tensor, generator: torch.Generator
) -> dict[str, tuple[SampledPositions, Tensor]]:
    """Return random positions of every layer, and the teacher's outputs there, by node."""
    samples: dict[str, tuple[SampledPositions, Tensor]] = {}

    def sample(layer: QuantizedLayer) -> Callable[[Tensor], None]:
        def observe(y: Tensor) -> None:
            count = min(MAX_POSITIONS, max(MIN_POSITIONS, 8 * layer.fan_in))
            positions = SampledPositions(
                layer.spec, layer.attributes, y, count=count, generator=generator
            )
            samples[layer.spec.node] = positions, positions.outputs(y)

        return observe

    after = {
        str(teacher.step(layer.spec.node).outputs[0]): Observer(sample(layer)) for layer in layers
    }
    net = ProgramModule(teacher, after=after, outputs=teacher.training_outputs, channels_last=True)
    net.to(batch.device)(batch)
    return samples


def refit_layer(layer: QuantizedLayer, x: Tensor, y: Tensor, *, damping: float) -> None:
    """Give a layer the weights, scales and bias that `solve_layer` finds near its own weights.

    `x` is what it reads, (G, M, P), and `y` what is wanted of it, (G, O/g, P).
    """
    moved = layer.weight.movedim(layer.spec.axis, 0)  # (O, I/g, ...)
    matrix = moved.reshape(x.shape[0], moved.shape[0] // x.shape[0], -1)  # (G, O/g, M)
    found = solve_layer(
        matrix,
        x,
        y,
        layer.spec.grid.limits,
        damping=damping,
        per_channel=layer.spec.per_channel,
        power_of_two=layer.spec.power_of_two,
    )
    weight = found.latent().reshape(moved.shape).movedim(0, layer.spec.axis)
    layer.set_parameters(weight, found.scales.reshape(-1), found.bias.reshape(-1))


@dataclass(frozen=True)
class LayerSolution:
    """The quantized weight and bias of one node."""

    codes: Tensor  # (G, O, M) integers
    scales: Tensor  # (G, O, 1)
    bias: Tensor  # (G, O)
    refit: Tensor  # (G, O, M) the least-squares weights before rounding

    def weight(self) -> Tensor:
        """Return what the codes stand for."""
        return self.codes * self.scales

    def latent(self) -> Tensor:
        """Return the point nearest the refit that still rounds to the codes.

        Training starts from it: a weight that was close to another code can get there.
        """
        off = (self.refit / self.scales - self.codes).clamp(-WITHIN, WITHIN)
        return (self.codes + off) * self.scales


def solve_layer(
    weight: Tensor,
    x: Tensor,
    y: Tensor,
    limits: tuple[int, int],
    *,
    damping: float,
    per_channel: bool = True,
    power_of_two: bool = False,
) -> LayerSolution:
    """Return the quantized weight and the bias of one node.

    `weight` is (G, O, M), `x` (G, M, P) the quantized inputs, `y` (G, O, P) the wanted outputs. The
    scales are all the same unless `per_channel`, and powers of two where they are to be.
    """
    weight, x, y = weight.double(), x.double(), y.double()
    x_mean, y_mean = x.mean(2, keepdim=True), y.mean(2, keepdim=True)
    x, y = x - x_mean, y - y_mean
    seen = x.float()  # products of thousands of positions, which single precision sums well enough
    hessian = (seen @ seen.transpose(1, 2)).double() / x.shape[2]  # (G, M, M)
    diagonal = hessian.diagonal(dim1=1, dim2=2)  # (G, M)
    ridge = damping * diagonal.mean(1).clamp_min(1e-12)  # (G,)
    held = hessian + ridge[:, None, None] * torch.eye(
        hessian.shape[1], dtype=hessian.dtype, device=x.device
    )
    cross = (y.float() @ seen.transpose(1, 2)).double() / x.shape[2]  # (G, O, M)
    target = weight
    if x.shape[2] >= ENOUGH * x.shape[1]:
        target = weight + torch.linalg.solve(held, (cross - weight @ hessian), left=False)
    importance = (diagonal + ridge[:, None])[:, None]  # (G, 1, M)
    rows = target if per_channel else target.reshape(1, 1, -1)
    scales = search_row_scales(
        rows,
        limits,
        norm=2.0,
        lowest=0.25,
        count=61,
        importance=importance if per_channel else importance.expand_as(target).reshape(1, 1, -1),
        power_of_two=power_of_two,
    ).expand(*target.shape[:2], 1)  # (G, O, 1)
    if per_channel and not power_of_two:
        codes, scales = search_codes(target, held, scales, limits)
    else:
        codes = round_columns(target, held, scales, limits)
    bias = (y_mean - (codes * scales) @ x_mean).squeeze(2)
    return LayerSolution(codes.float(), scales.float(), bias.float(), target.float())
