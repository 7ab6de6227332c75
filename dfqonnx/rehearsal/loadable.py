"""A plan that the runtime can load and run, found by trying.

    export with untrained numbers -- load without and with optimizations -- run one input

Of a target that is not ONNX Runtime's CPU kernels, the file is tried as it is written alone.

A failure names the node at fault, or halving finds it. It is kept apart from the quantizers around
it where that cures it, else left in float. What nothing cures is refused, with the runtime's
message, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization import Storage
from dfqonnx.core.quantization_plan import FloatNode, QuantizationParameters, QuantizationPlan
from dfqonnx.errors import InternalError, Offense, UnsupportedModel, UsageError
from dfqonnx.export.export import check, export
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.runtime.session import Array, Session
from dfqonnx.targets.profile import TARGETS

LEVELS: tuple[Literal["off"], Literal["all"]] = ("off", "all")  # of ONNX Runtime's optimizations
_TRIES = 64  # files exported and loaded, at most
_REASON = "the runtime does not run its integer form: {}"
_QUOTED = 160  # characters of the runtime's message in a reason


@dataclass(kw_only=True)
class Stage:
    """What a rehearsal plays on: the model, and how to plan and to number its quantizers.

    `place` returns the plan that leaves further nodes in float, by name with the reason;
    `parameters` returns numbers for a plan; `x` is one input of the network, with its batch axis.
    """

    model: NormalizedModel
    place: Callable[[Mapping[str, str]], QuantizationPlan]
    parameters: Callable[[QuantizationPlan], QuantizationParameters]
    x: Array
    storage: Storage
    progress: Progress
    tries: int = field(default=0, init=False)
    _written: tuple[QuantizationPlan, bytes] | None = field(default=None, init=False)

    def write(self, plan: QuantizationPlan) -> bytes:
        """Return the file of a plan; an InternalError where it is not valid ONNX."""
        if self._written is not None and self._written[0] is plan:
            return self._written[1]
        exported = export(self.model, plan, self.parameters(plan), storage=self.storage)
        data: bytes = check(exported).SerializeToString(deterministic=True)
        self._written = (plan, data)
        return data

    def fails(self, plan: QuantizationPlan) -> str:
        """Return what goes wrong with the file of a plan; empty where nothing does."""
        self.tries += 1
        try:
            data = self.write(plan)
            for level in LEVELS if TARGETS[plan.target].on_onnxruntime_cpu else LEVELS[:1]:
                session = Session(data, optimization=level)
                session.run_batched({session.inputs[0].name: self.x})
        except (InternalError, UsageError) as error:
            return str(error)
        return ""


def make_loadable(stage: Stage) -> QuantizationPlan:
    """Return a plan whose file the runtime loads and runs.

    Raises:
        UnsupportedModel: no node can be blamed, or leaving it in float does not help.
    """
    kept: dict[str, str] = {}
    plan = stage.place(kept)
    while message := stage.fails(plan):
        cured = _cure(stage, plan, message, kept)
        if cured is None:
            raise UnsupportedModel(
                "the runtime cannot run what this model would be exported as:",
                [
                    Offense(name, op, _shorten(message), "please report it, with the model")
                    for name, op in _find_named(stage, message)[:1] or [("graph", "")]
                ],
            )
        plan, node = cured
        stage.progress.warn(f"{node.op} {node.node} stays in float: {node.reason}.")
    return plan


def _cure(
    stage: Stage, plan: QuantizationPlan, message: str, kept: dict[str, str]
) -> tuple[QuantizationPlan, FloatNode] | None:
    """Return a plan without this failure, and the node that was at fault; None without one."""
    for name, op in _suspect(stage, plan, message):
        node = FloatNode(name, op, _REASON.format(_shorten(message)))
        if name not in plan.isolated and stage.fails(apart := plan.isolating(node)) != message:
            return apart, node
        without = _keep_apart(stage.place({**kept, name: node.reason}), plan)
        if name not in kept and stage.fails(without) != message:
            kept[name] = node.reason
            return without, node
    return None


def _suspect(stage: Stage, plan: QuantizationPlan, message: str) -> Iterator[tuple[str, str]]:
    """Yield the nodes that a message names, then the one that halving finds: name, operator."""
    yield from _find_named(stage, message)
    everything = [(str(node.name), node.op_type) for node in stage.model.ir.graph]
    yield from _halve(stage, plan, message, everything)


def _halve(
    stage: Stage, plan: QuantizationPlan, message: str, nodes: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Return the one node whose quantization makes the failure, in a list; none where it is not."""
    if stage.fails(_without(stage, plan, nodes)) == message:
        return []
    while len(nodes) > 1 and stage.tries < _TRIES:
        half = nodes[: len(nodes) // 2]
        cured = stage.fails(_without(stage, plan, half)) != message
        nodes = half if cured else nodes[len(half) :]
    return nodes if len(nodes) == 1 else []


def _without(
    stage: Stage, plan: QuantizationPlan, nodes: Iterable[tuple[str, str]]
) -> QuantizationPlan:
    """Return the plan with all of `nodes` in float."""
    return _keep_apart(stage.place({name: "tried in float" for name, _ in nodes}), plan)


def _keep_apart(plan: QuantizationPlan, before: QuantizationPlan) -> QuantizationPlan:
    """Return `plan` with the nodes kept apart that were so before."""
    floats = {node.node: node for node in before.floats}
    for name in before.isolated:
        if name not in plan.isolated:
            plan = plan.isolating(floats[name])
    return plan


def _find_named(stage: Stage, message: str) -> list[tuple[str, str]]:
    """Return the nodes that a message names, the longest names first: name and operator."""
    nodes = [(str(node.name), node.op_type) for node in stage.model.ir.graph]
    forms = ("'{}'", '"{}"', "({})")
    found = [(name, op) for name, op in nodes if any(f.format(name) in message for f in forms)]
    return sorted(found, key=lambda node: -len(node[0]))


def _shorten(message: str) -> str:
    return message if len(message) <= _QUOTED else f"{message[: _QUOTED - 3]}..."
