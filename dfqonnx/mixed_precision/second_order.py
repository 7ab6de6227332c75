"""What a quantizer costs, by a second-order expansion around the float network.

A quantizer changes a value by d, and the outputs by J d. With the random direction v of
`output_loss`, whose covariance H is the curvature of the loss in the outputs, and its gradient
g = J' v at that value,

    loss(d) = E[(J d)' H (J d)] = E[(v' J d)^2] = E[(g . d)^2]         per image, all positions

d is what rounding really does: (w' - w) * x less its mean for a weight of width b, Q(x) - x for an
activation. One backward pass serves every quantizer and every width, where measuring runs the
network once for each.

That is the Gauss-Newton term of Hessian-aware methods (Dong et al., "HAWQ-V2", NeurIPS 2020: mean
trace of the Hessian times |d|^2; Zandonati et al., "FIT: A Metric for Model Sensitivity", ICLR
2023: trace of the empirical Fisher information times the noise power), without their assumption
that d is white: rounding is known, so its direction is used as well.

Where all outputs are maps, a value is cut into 8 x 8 parts and the squares of these are added up:
signs v of distant positions are independent, so products of distant parts have mean 0, and what is
left has an eighth of the deviation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.student import Student
from dfqonnx.mixed_precision.output_loss import draw_directions, run_outputs, sum_powers
from dfqonnx.mixed_precision.separate_quantizers import OutputShift, channel_axis, turned_on

BLOCKS = 8  # parts of a map along each axis
RoundedWeights = Mapping[tuple[str, int], Tensor]  # by node and width
Key = tuple[str, int]  # a node or a quantizer, and a width


class SecondOrderCosts:
    """Sums of (g . d)^2 over images, for quantizers of a student in which all are off."""

    def __init__(
        self, student: Student, weights: RoundedWeights, shifts: Mapping[Key, OutputShift]
    ):
        self._student, self._weights, self._shifts = student, weights, shifts
        self._squares: defaultdict[Key, float] = defaultdict(float)
        self._batch = 1  # images of the batch at hand
        self._is_spatial = False  # whether all outputs are maps

    def measure(
        self, batches: Sequence[Tensor], teacher: Sequence[tuple[Tensor, ...]], generator: Generator
    ) -> Mapping[Key, float]:
        """Return the cost of every rounded weight and every activation quantizer.

        `teacher` are the float outputs for the `batches` of model inputs.
        """
        powers = sum_powers(tuple(torch.cat(parts) for parts in zip(*teacher, strict=True)))
        images = sum(map(len, batches))
        self._is_spatial = all(output.dim() == 4 for output in teacher[0])
        with _gradients_of_values_only(self._student), self._watching():
            for x, outputs in zip(batches, teacher, strict=True):
                self._batch = len(x)
                v = draw_directions(outputs, powers, images, generator)
                found = run_outputs(self._student, x.clone().requires_grad_())
                pairs = [(o, d) for o, d in zip(found, v, strict=True) if o.requires_grad]
                torch.autograd.backward([o for o, _ in pairs], [d for _, d in pairs])
        return {key: total / images for key, total in self._squares.items()}

    @contextmanager
    def _watching(self) -> Iterator[None]:
        with ExitStack() as hooks:
            for layer in self._student.layers():
                hooks.callback(layer.register_forward_hook(self._watch_layer).remove)
            for quantizer in self._student.quantizers():
                hooks.callback(quantizer.register_forward_hook(self._watch_quantizer).remove)
            yield

    def _watch_layer(self, module: nn.Module, values: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, QuantizedLayer)
        layer, inputs = module, tuple(value.detach() for value in values)
        widths = [bits for node, bits in self._weights if node == layer.spec.node]
        axis = channel_axis(layer, output)

        def take(gradient: Tensor) -> None:
            with torch.no_grad():
                for bits in widths:
                    key = (layer.spec.node, bits)
                    change = layer.run(inputs, self._weights[key] - layer.weight, None)
                    mean = self._shifts[key].mean
                    if mean is not None and layer.bias is not None:
                        shape = [1] * change.dim()
                        shape[axis] = -1
                        change = change - mean.view(shape)
                    self._add(key, gradient, change)

        _on_gradient(output, take)

    def _watch_quantizer(
        self, module: nn.Module, values: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        assert isinstance(module, FakeQuantizer)
        quantizer, value = module, values[0].detach()
        own = output.view_as(output)  # whose gradient is that of what reads through it alone

        def take(gradient: Tensor) -> None:
            with torch.no_grad(), turned_on(quantizer):
                change = quantizer.forward(value) - quantizer.rectified(value)
                key = (quantizer.spec.name, quantizer.spec.grid.bits)
                self._add(key, gradient, change)

        _on_gradient(own, take)
        return own

    def _add(self, key: Key, gradient: Tensor, change: Tensor) -> None:
        products = (gradient * change).double()
        if self._is_spatial and products.dim() == 4:
            self._squares[key] += float(sum_blocks(products).square().sum())
            return
        is_by_image = products.dim() > 0 and len(products) % self._batch == 0
        each = products.reshape(self._batch if is_by_image else 1, -1).sum(1)  # (B,)
        self._squares[key] += float(each.square().sum())


def sum_blocks(products: Tensor) -> Tensor:
    """Return sums over the channels and positions of `BLOCKS` x `BLOCKS` parts of (N, C, H, W)."""
    maps = products.sum(1, keepdim=True)  # (N, 1, H, W)
    height, width = (-(-size // BLOCKS) for size in maps.shape[2:])
    over = [
        BLOCKS * step - size for step, size in zip((height, width), maps.shape[2:], strict=True)
    ]
    padded = functional.pad(maps, (0, over[1], 0, over[0]))
    return padded.reshape(len(maps), BLOCKS, height, BLOCKS, width).sum((2, 4))


def _on_gradient(value: Tensor, take: Callable[[Tensor], None]) -> None:
    """Call `take` with the gradient of a value, where one arrives."""
    if value.requires_grad:
        value.register_hook(take)  # type: ignore[no-untyped-call]


@contextmanager
def _gradients_of_values_only(student: Student) -> Iterator[None]:
    """Let parameters have no gradient within the block."""
    trained = [p for p in student.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
