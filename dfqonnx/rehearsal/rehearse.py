"""The rehearsal of an export, before anything slow: does the runtime run the file, and rightly?

    plan + untrained numbers -> file -> loaded, run, compared on equal codes -> the same plan,
    or one whose faulty nodes are kept apart from their quantizers

Whether a runtime's kernel computes what the file says depends on the graph and its attributes,
hardly on the numbers: so it is seen with untrained ones. The trained file is held against the same
rule once more (`keep_faulty_apart`), because an optimization may depend on scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization import Storage
from dfqonnx.core.quantization_plan import FloatNode, QuantizationParameters, QuantizationPlan
from dfqonnx.evaluation.code_mismatches import QuantizerMismatches
from dfqonnx.evaluation.parity import measure_parity
from dfqonnx.export.untrained import set_untrained_parameters
from dfqonnx.graph.intermediate_outputs import expose_intermediate_outputs
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.rehearsal.loadable import Stage, make_loadable
from dfqonnx.runtime.session import Array, Session
from dfqonnx.targets.profile import TARGETS

_LARGEST = 2**30  # bytes of weights; a larger model is not written and loaded so often
_LARGEST_INPUT = 2**26  # bytes of one input, 2,300 x 2,300 pixels; nor is it run so often
_ROUNDS = 4  # after which what still differs is left to the checks of the report


def rehearse(
    model: NormalizedModel,
    place: Callable[[Mapping[str, str]], QuantizationPlan],
    x: Array,
    *,
    storage: Storage,
    progress: Progress,
) -> QuantizationPlan:
    """Return the plan whose file the runtime loads, runs and computes as written.

    `place` makes the plan that leaves given nodes in float, by name with the reason; `x` are one or
    two inputs of the network.

    Raises:
        UnsupportedModel: the runtime runs no such file, whatever is left in float.
    """
    plan = place({})
    if _is_large(model, x):
        progress.warn("The export is not tried beforehand: the model or its input is too large.")
        return plan
    values: dict[str, Array] = {model.input: np.asarray(x, np.float32)}

    def number(plan: QuantizationPlan) -> QuantizationParameters:
        missing = {quantizer.tensor for quantizer in plan.activations} - values.keys()
        values.update(_run_float(model, sorted(missing), x) if missing else {})
        return set_untrained_parameters(model, plan, values)

    stage = Stage(
        model=model, place=place, parameters=number, x=x, storage=storage, progress=progress
    )
    return keep_faulty_apart(stage, make_loadable(stage))


def keep_faulty_apart(stage: Stage, plan: QuantizationPlan) -> QuantizationPlan:
    """Return the plan with nodes kept apart whose integer kernel computes other codes.

    They are those that make a quantizer's input from the codes before it, fed equal codes. Where
    keeping them apart does not cure it, the plan stays as it was: the report names them.
    """
    other = not TARGETS[plan.target].on_onnxruntime_cpu  # whose kernels these are not
    if other or _is_large(stage.model, stage.x):
        return plan
    for _ in range(_ROUNDS):
        faulty = _find_faulty(stage, plan)
        found = [(each, _blame(stage, plan, each)) for each in faulty]
        nodes = {node.node: node for each, blamed in found for node in blamed}
        if not nodes:
            return plan
        changed = plan
        for node in nodes.values():
            changed = changed.isolating(node)
        left = {each.quantizer for each in _find_faulty(stage, changed)}
        cured = {n.node: n for each, b in found for n in b if each.quantizer not in left}
        if not cured:
            return plan
        for node in cured.values():
            plan = plan.isolating(node)
            stage.progress.warn(f"{node.op} {node.node} runs in float: {node.reason}.")
    return plan


def _find_faulty(stage: Stage, plan: QuantizationPlan) -> tuple[QuantizerMismatches, ...]:
    parity = measure_parity(stage.write(plan), stage.x)
    return () if parity is None else parity.on_vs_off.faulty


def _blame(stage: Stage, plan: QuantizationPlan, found: QuantizerMismatches) -> list[FloatNode]:
    """Return the nodes before a faulty quantizer that are not kept apart yet."""
    ops = {str(node.name): node.op_type for node in stage.model.ir.graph}
    reason = (
        f"the runtime's kernel computes {found.fraction:.1e} of the codes of {found.quantizer}"
        f" otherwise than the file says, by up to {found.largest} levels"
    )
    absorbed = TARGETS[plan.target].absorbed  # part of what is before them
    names = [name for name in found.nodes if name in ops and ops[name] not in absorbed]
    names = [name for name in names if name not in plan.isolated]
    return [FloatNode(name, ops[name], reason) for name in names]


def _run_float(model: NormalizedModel, names: Sequence[str], x: Array) -> dict[str, Array]:
    """Return values of the float network by name."""
    session = Session(expose_intermediate_outputs(model, names), optimization="off")
    return session.run_batched({model.input: x}, outputs=names)


def _is_large(model: NormalizedModel, x: Array) -> bool:
    """Return whether loading and running the model several times costs minutes of their own."""
    constants = (value.const_value for value in model.ir.graph.initializers.values())
    weights = sum(tensor.nbytes for tensor in constants if tensor is not None)
    return weights > _LARGEST or x[:1].nbytes > _LARGEST_INPUT
