"""The student: the teacher's program with quantizers where `QuantizationPlan` says, trained in place.

Weighted nodes become `QuantizedLayer`s; an activation site without consumers is a quantizer where its
tensor is born, one with consumers a quantizer on the way into them. There is no BatchNorm: its
affine freedom is the weight step and the bias of each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.errors import InternalError
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.step_search import sample


class Student(nn.Module):
    """A quantized copy of a program.

    Attributes:
        sites: the decision that it carries out.
        targets: names of the values that distillation compares; `forward` returns the first.
        quantizers: one per activation site, in the order of `sites.activations`.
        weighted: one per weight site, in the order of `sites.weights`.
    """

    def __init__(self, program: Program, sites: QuantizationPlan) -> None:
        super().__init__()
        self.sites, self.targets = sites, program.training_outputs
        absorbed = absorbed_nodes(program, sites)
        self.quantizers = nn.ModuleList(
            FakeQuantizer(site, rectify=site.name in absorbed) for site in sites.activations
        )
        by_name = {q.site.name: q for q in self.activations()}
        steps = {step.node: step for step in program.steps}
        missing = [s.node for s in sites.weights if s.node not in steps or s.input not in by_name]
        if missing:
            raise InternalError(f"weight site {missing[0]!r} has no program step or no input site")
        self.weighted = nn.ModuleList(
            QuantizedLayer(site, steps[site.node], program.tensors, by_name[site.input])
            for site in sites.weights
        )
        self.net = ProgramModule(
            program,
            replace={op.site.node: op for op in self.operators()}
            | {node: nn.Identity() for node in absorbed.values()},
            after={q.site.tensor: q for q in self.activations() if not q.site.consumers},
            reading={
                (node, q.site.tensor): q for q in self.activations() for node in q.site.consumers
            },
            taps=self.features,
            channels_last=True,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the tensors that close a block, and of the targets behind the first."""
        blocks = (s.tensor for s in self.sites.activations if s.feature and not s.consumers)
        return tuple(dict.fromkeys((*blocks, *self.targets[1:])))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the weighted nodes per image; 0 before the first forward pass."""
        return sum(op.multiply_adds for op in self.operators())

    def activations(self) -> list[FakeQuantizer]:
        """Return the activation quantizers, in the order of `sites.activations`."""
        return [q for q in self.quantizers if isinstance(q, FakeQuantizer)]

    def operators(self) -> list[QuantizedLayer]:
        """Return the quantized nodes, in the order of `sites.weights`."""
        return [op for op in self.weighted if isinstance(op, QuantizedLayer)]

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (logits, {feature tensor: value})."""
        logits, taps = self.net(x)
        return logits, taps

    @torch.no_grad()
    def initialize(self, batches: Iterable[Tensor], *, sequential: bool = False) -> None:
        """Set every step by grid search.

        Weight steps come from the weights; activation steps from what arrives at each site while
        `batches` pass: all in one pass through float activations and quantized weights, or, when
        `sequential`, each site as soon as it is first reached (the first batch decides).

        Args:
            batches: model input tensors.
            sequential: let a site see quantized activations.
        """
        for op in self.operators():
            op.reset_steps()
        seen: dict[str, list[Tensor]] = {q.site.name: [] for q in self.activations()}
        for q in self.activations():
            q.watcher = _settle(q) if sequential else _keep(seen[q.site.name])
        for op in self.operators():
            op.float_bias = True
        try:
            for batch in batches:
                self(batch)
                if sequential:
                    break
        finally:
            for q in self.activations():
                q.watcher = None
            for op in self.operators():
                op.float_bias = False
        if not sequential:
            unseen = [name for name, samples in seen.items() if not samples]
            if unseen:
                raise InternalError(f"no way leads from sites {unseen[:3]} to any target")
            for q in self.activations():
                q.settle(torch.cat(seen[q.site.name]))
        for op in self.operators():
            op.guard_bias()

    @torch.no_grad()
    def measure(self, x: Tensor) -> int:
        """Return how many numbers per image pass the activation quantizers; counts multiply-adds.

        Training keeps about four of each: a node's output, what the quantizer makes of it, and
        their gradients.
        """
        counts: list[int] = []

        def watch(value: Tensor) -> None:
            counts.append(value.numel() // value.shape[0])

        for q in self.activations():
            q.watcher = watch
        try:
            self(x)
        finally:
            for q in self.activations():
                q.watcher = None
        return sum(counts)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters by kind: weights, biases, steps (all logarithms)."""
        ops, quantizers = self.operators(), self.activations()
        return {
            "weights": [op.weight for op in ops],
            "biases": [op.bias for op in ops if op.bias is not None],
            "steps": [op.log_step for op in ops] + [q.log_step for q in quantizers],
        }

    def save_state(self) -> dict[str, Tensor]:
        """Return a copy of every trained parameter by name."""
        return {name: value.detach().clone() for name, value in self._named()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set every trained parameter from `save_state`.

        Raises:
            InternalError: the state belongs to another student.
        """
        named = dict(self._named())
        if named.keys() != state.keys():
            odd = sorted(named.keys() ^ state.keys())[0]
            raise InternalError(f"student state: parameter {odd!r} is not on both sides")
        for name, value in named.items():
            value.copy_(state[name])

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        found = [(f"activation:{q.site.name}", q.log_step) for q in self.activations()]
        for op in self.operators():
            found += [(f"{kind}:{op.site.node}", p) for kind, p in op.named_parameters()]
        return found

    @torch.no_grad()
    def codes(self, x: Tensor) -> dict[str, NDArray[np.uint8]]:
        """Return the codes at every activation site for inputs `x`."""
        found: dict[str, NDArray[np.uint8]] = {}

        def watch(q: FakeQuantizer) -> Callable[[Tensor], None]:
            def note(value: Tensor) -> None:
                found[q.site.name] = q.codes(value).cpu().numpy()

            return note

        for q in self.activations():
            q.watcher = watch(q)
        try:
            self(x)
        finally:
            for q in self.activations():
                q.watcher = None
        return found

    def qparams(self) -> QuantizationParameters:
        """Return exactly the integers and scales that `forward` uses."""
        return QuantizationParameters(
            {q.site.name: q.params() for q in self.activations()},
            {op.site.node: op.params() for op in self.operators()},
        )


def absorbed_nodes(program: Program, sites: QuantizationPlan) -> dict[str, str]:
    """Return {site name: node} for every Relu, and Clip from 0, that its quantizer makes needless.

    Codes of an unsigned site start at real 0, and a ceiling is where its Clip ends: quantizing
    before or after such a node gives the same codes. Leaving it out saves two passes over memory.
    """
    makers = {step.outputs[0]: step for step in program.steps}
    found = {}
    for site in sites.activations:
        maker = makers.get(site.tensor)
        if site.consumers or site.grid.signed or maker is None:
            continue
        if maker.op == "Relu" or (maker.op == "Clip" and site.clip_max is not None):
            found[site.name] = maker.node
    return found


def _keep(samples: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def watch(value: Tensor) -> Tensor:
        samples.append(sample(value))
        return value

    return watch


def _settle(quantizer: FakeQuantizer) -> Callable[[Tensor], None]:
    settled = False

    def watch(value: Tensor) -> None:
        nonlocal settled
        if not settled:
            quantizer.settle(sample(value))
            settled = True

    return watch
