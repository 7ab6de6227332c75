"""DFQF's adversary: a float network of the teacher's form with random weights.

Every Conv, Gemm and MatMul gets a weight N(0, 2 / fan-in) and a bias of 0, and every value that
came out of a BatchNormalization passes one again, which normalizes by its own batch. The adversary
is trained on the generator's images by KL(teacher || adversary), and is dropped afterwards.

    SGD, momentum 0.9, weight decay; rate / 10 at 40 % and 80 % of the steps

Source: Li et al., "DFQF: Data Free Quantization-aware Fine-tuning", ACML 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import OpCall
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.synthesis.synthesis_context import SynthesisContext

MOMENTUM, MILESTONES = 0.9, (0.4, 0.8)


class FloatAdversary:
    """The adversary with its optimizer."""

    def __init__(self, context: SynthesisContext) -> None:
        teacher, config = context.teacher, context.config.co_training
        layers = {
            step.node: _RandomLayer(step, teacher.tensors, context.generator)
            for step in teacher.steps
            if has_trait(step.op, Trait.LAYER)
            and len(step.inputs) > 1
            and step.inputs[1] in teacher.tensors
        }
        norms = {name: _BatchNorm(len(known.mean)) for name, known in context.statistics.items()}
        net = ProgramModule(teacher, replace=layers, after=norms, channels_last=True)
        self.net = net.to(context.device)
        self._lr = config.opponent_lr
        self._optimizer = torch.optim.SGD(
            self.net.parameters(),
            lr=config.opponent_lr,
            momentum=MOMENTUM,
            weight_decay=config.opponent_weight_decay,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of model inputs."""
        logits: Tensor = self.net(x)[0]
        return logits

    def step(self, x: Tensor, teacher_logits: Tensor, *, done: float) -> float:
        """Take one step towards the teacher's logits (B, K) on x, and return the divergence.

        x and logits are detached; `done` is the fraction of the training that is over.
        """
        rate = self._lr * lr_factor(done, "steps", milestones=MILESTONES)
        self._optimizer.param_groups[0]["lr"] = rate
        loss = functional.kl_div(
            functional.log_softmax(self(x), 1),
            functional.log_softmax(teacher_logits, 1),
            reduction="batchmean",
            log_target=True,
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())


class _RandomLayer(nn.Module):
    """One operator call of the program with a weight and bias of its own."""

    def __init__(self, step: OpCall, tensors: Mapping[str, Tensor], generator: Generator) -> None:
        super().__init__()
        self._function, self._attributes = step.function, dict(step.attributes)
        self._inputs = step.inputs
        self._own: dict[str, str] = {}
        for place, name in enumerate(step.inputs):
            if name is None or name not in tensors:
                continue
            shape = tensors[name].shape
            fresh = torch.zeros(shape)
            if place == 1:
                fan = prod(shape) / max(1, _outputs(step, shape))
                fresh = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
            self._own[name] = f"own{place}"
            self.register_parameter(f"own{place}", nn.Parameter(fresh))

    def forward(self, *values: Tensor) -> Tensor:
        """Run the call on its non-constant inputs."""
        given = iter(values)
        arguments = [
            None
            if name is None
            else getattr(self, self._own[name])
            if name in self._own
            else next(given)
            for name in self._inputs
        ]
        result: Tensor = self._function(*arguments, **self._attributes)
        return result


class _BatchNorm(nn.Module):
    """BatchNormalization by the batch's own statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...) normalized per channel."""
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


def _outputs(step: OpCall, shape: torch.Size) -> int:
    """Return how many outputs a weight of `shape` has."""
    first = step.op == "Conv" or bool(step.attributes.get("transB"))
    return shape[0] if first else shape[-1]
