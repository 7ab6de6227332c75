"""The student: the teacher's program with quantizers where the plan says, trained in place.

Weighted nodes become `QuantizedLayer`s. A quantizer without consumers stands where its tensor is
made, one with consumers on the way into them. There is no BatchNormalization: its affine freedom is
the weight scale and the bias of each channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import (
    ActivationQuantizer,
    QuantizationParameters,
    QuantizationPlan,
)
from dfqonnx.errors import InternalError
from dfqonnx.fakequant.capture import Inputs, capture
from dfqonnx.fakequant.layer import QuantizedLayer, both_rounded, weight_rounded
from dfqonnx.fakequant.observed_values import ObservedValues
from dfqonnx.fakequant.quantizer import FakeQuantizer

_ZERO_POINT = "zero point:"


def _find_readers(program: Program, spec: ActivationQuantizer) -> Iterator[str]:
    """Yield the nodes that read through a quantizer which some do not read through."""
    for call in program.steps if spec.raw else ():
        if spec.tensor in call.reads() and call.node not in spec.raw:
            yield call.node


class Student(nn.Module):
    """A quantized copy of a program.

    Distillation compares the values `training_outputs`; `forward` returns the first beside the
    features.
    """

    def __init__(self, program: Program, plan: QuantizationPlan) -> None:
        super().__init__()
        self.plan, self.training_outputs = plan, program.training_outputs
        absorbed = absorbed_nodes(program, plan)
        self._quantizers = nn.ModuleList(
            FakeQuantizer(spec, rectify=spec.name in absorbed) for spec in plan.activations
        )
        by_name = {q.spec.name: q for q in self.quantizers()}
        calls = {call.node: call for call in program.steps}
        missing = [w.node for w in plan.weights if w.node not in calls or w.input not in by_name]
        if missing:
            raise InternalError(
                f"weight of {missing[0]!r}: no such node, or no quantizer before it"
            )
        self._layers = nn.ModuleList(
            QuantizedLayer(spec, calls[spec.node], program.tensors, by_name[spec.input])
            for spec in plan.weights
        )
        self.net = ProgramModule(
            program,
            replace={layer.spec.node: layer for layer in self.layers()}
            | {node: nn.Identity() for node in absorbed.values()},
            after={
                q.spec.tensor: q for q in self.quantizers() if not (q.spec.consumers or q.spec.raw)
            },
            reading={
                (node, q.spec.tensor): q
                for q in self.quantizers()
                for node in q.spec.consumers or _find_readers(program, q.spec)
            },
            taps=self.features,
            channels_last=True,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the tensors that close a block, and of the training outputs but the first."""
        blocks = (q.tensor for q in self.plan.activations if q.feature and not q.consumers)
        return tuple(dict.fromkeys((*blocks, *self.training_outputs[1:])))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the weighted nodes per image; 0 before the first forward pass."""
        return sum(layer.multiply_adds for layer in self.layers())

    def quantizers(self) -> list[FakeQuantizer]:
        """Return the activation quantizers, in the order of the plan."""
        return [q for q in self._quantizers if isinstance(q, FakeQuantizer)]

    def layers(self) -> list[QuantizedLayer]:
        """Return the quantized nodes, in the order of the plan."""
        return [layer for layer in self._layers if isinstance(layer, QuantizedLayer)]

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (logits, {feature tensor: value})."""
        logits, taps = self.net(x)
        return logits, taps

    @torch.no_grad()
    def initialize(
        self,
        batches: Iterable[Tensor],
        *,
        probes: Iterable[Tensor] = (),
        probability: float = 0.0,
    ) -> None:
        """Set every scale by grid search.

        Those of weights come from the weights; those of activations from what arrives at each
        quantizer while `batches` of model inputs pass with float activations and rounded weights.
        `probes` are further model inputs, like which real ones are with `probability`.
        """
        seen = {q.spec.name: ObservedValues() for q in self.quantizers()}
        for layer in self.layers():
            layer.search_scales()
        self._set_calibrating(True)
        try:
            for group, probe in ((batches, False), (probes, True)):

                def observe(
                    quantizer: FakeQuantizer, _: Inputs, value: Tensor, probe: bool = probe
                ) -> None:
                    seen[quantizer.spec.name].add(value, probe=probe)

                with capture(self.quantizers(), after=observe):
                    for batch in group:
                        self(batch)
        finally:
            self._set_calibrating(False)
        unseen = [name for name, found in seen.items() if not found.inputs]
        if unseen:
            raise InternalError(f"quantizers {unseen[:3]} lead to no training output")
        for quantizer in self.quantizers():
            quantizer.calibrate(seen[quantizer.spec.name].weighted(probability))
        for layer in self.layers():
            layer.guard_bias()

    def _set_calibrating(self, calibrating: bool) -> None:
        for quantizer in self.quantizers():
            quantizer.enabled = not calibrating
        for layer in self.layers():
            layer.weight_source = weight_rounded if calibrating else both_rounded

    @torch.no_grad()
    def count_activations(self, x: Tensor) -> int:
        """Return how many values per image pass activation quantizers; count multiply-adds."""
        counts: list[int] = []

        def observe(_: FakeQuantizer, values: Inputs) -> None:
            counts.append(values[0].numel() // values[0].shape[0])

        with capture(self.quantizers(), before=observe):
            self(x)
        return sum(counts)

    @torch.no_grad()
    def codes(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """Return the codes at every activation quantizer for inputs `x`."""
        found: dict[str, NDArray[Any]] = {}

        def observe(quantizer: FakeQuantizer, values: Inputs) -> None:
            found[quantizer.spec.name] = quantizer.codes(values[0]).cpu().numpy()

        with capture(self.quantizers(), before=observe):
            self(x)
        return found

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trained parameters by kind: weights, biases, scales (as logarithms)."""
        layers, quantizers = self.layers(), self.quantizers()
        scales = [layer.log_scale for layer in layers] + [q.log_scale for q in quantizers]
        return {
            "weights": [layer.weight for layer in layers],
            "biases": [layer.bias for layer in layers if layer.bias is not None],
            "scales": [scale for scale in scales if scale.requires_grad],
        }

    def save_state(self) -> dict[str, Tensor]:
        """Return a copy of every trained parameter, and of every zero point, by name."""
        state = {name: value.detach().clone() for name, value in self._named()}
        zero_points = {
            _ZERO_POINT + q.spec.name: torch.tensor(q.zero_point) for q in self.quantizers()
        }
        return state | zero_points

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set every trained parameter from the `save_state` of this student, else InternalError."""
        zero_points = {_ZERO_POINT + q.spec.name: q for q in self.quantizers()}
        named = dict(self._named())
        expected = named.keys() | zero_points.keys()
        if expected != state.keys():
            odd = sorted(expected ^ state.keys())[0]
            raise InternalError(f"student state: parameter {odd!r} is not on both sides")
        for name, value in named.items():
            value.copy_(state[name])
        for name, quantizer in zero_points.items():
            quantizer.zero_point = int(state[name])

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        found = [(f"activation:{q.spec.name}", q.log_scale) for q in self.quantizers()]
        for layer in self.layers():
            found += [(f"{kind}:{layer.spec.node}", p) for kind, p in layer.named_parameters()]
        return found

    def qparams(self) -> QuantizationParameters:
        """Return exactly the integers and scales that `forward` uses."""
        return QuantizationParameters(
            {q.spec.name: q.params() for q in self.quantizers()},
            {layer.spec.node: layer.params() for layer in self.layers()},
        )


def absorbed_nodes(program: Program, plan: QuantizationPlan) -> dict[str, str]:
    """Return {quantizer: node} for every Relu, and Clip from 0, that a quantizer makes needless.

    Codes of an unsigned range start at real 0, and `clip_max` is where its Clip ends: quantizing
    before or after such a node gives the same codes. Leaving it out saves two passes over memory.
    """
    makers = {call.outputs[0]: call for call in program.steps}
    found = {}
    for quantizer in plan.activations:
        maker = makers.get(quantizer.tensor)
        if quantizer.consumers or quantizer.grid.signed or maker is None:
            continue
        if maker.op == "Relu" or (maker.op == "Clip" and quantizer.clip_max is not None):
            found[quantizer.name] = maker.node
    return found
