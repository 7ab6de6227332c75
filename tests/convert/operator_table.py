"""The page `docs/operators.md`: written from the registry, the backend cases and the roles.

python -m tests.convert.operator_table        writes the page anew
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir

from dfqonnx.convert import op_registry as registry
from dfqonnx.convert.op_registry import OPERATORS
from dfqonnx.graph.passes.edit import add_initializer
from dfqonnx.placement.roles import assign_roles
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.convert.nodes import COMPOSED, backend_cases
from tests.convert.test_backend_nodes import NOT_RUN, OWN_TESTS, reason_not_to_run

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
REWRITTEN = {  # what becomes of an operator where its operands and attributes allow it
    "AveragePool": "quantized: operand and result, 8 bits; with `dilations` float",
    "BatchNormalization": "read, then folded into the layer before it, else a depthwise Conv",
    "Clip": "joins the quantizer of the layer before it where it starts at 0",
    "Constant": "becomes an initializer",
    "ConvTranspose": "float, kept apart from the quantizers around it; trained through",
    "Dropout": "removed",
    "HardSwish": "quantized where nothing else reads what it reads: a product of codes; else float",
    "Identity": "removed",
    "MatMul": "quantized: weights and input, or two computed operands and result, 8 bits",
    "Max": "a Clip where one operand is a constant; else float",
    "Min": "a Clip where one operand is a constant; else float",
    "Pad": "moves into the Conv behind it; else codes are handed on (zeros), or float",
    "ReduceMean": "over the image a GlobalAveragePool: quantized; else float",
    "Relu": "joins the quantizer of the layer or sum before it",
    "Softmax": "float, kept apart from the quantizers around it; trained through",
    "Sub": "by a constant folded into the layer before it; else float",
    "Div": "by a constant folded into the layer before it; else float",
    "Swish": "a product with a Sigmoid: quantized, 8 bits",
    "Upsample": "a Resize",
    "Resize": "codes are handed on (nearest); else float",
}
TREATMENT = {
    "layer": "quantized: weights and input",
    "normalization": "quantized: weights and input",
    "elementwise": "quantized: operands and result, 8 bits",
    "absorbed": "joins the quantizer of the node before it",
    "preserving": "codes are handed on",
    "shape": "computed when the model is read where shapes alone decide it, else untouched",
    "float": "float, trained through",
}
HEAD = """# Operators

Written by `python -m tests.convert.operator_table`; a test compares it with what is true.

{operators} operators of `ai.onnx` in {versions} versions. A file of opset 7 to {newest} is brought
to opset 21 (or keeps its own, when newer). *Cases* are ONNX's own backend node tests (onnx {onnx})
for the operator: how many are there, and how many pass within their own tolerance. {passed} of
{total} pass; the others are listed below with the reason. *In the student* says how a node
of this kind between two layers is treated for ONNX Runtime CPU; behind the last layer everything
stays as it is. An operator that is not listed does not refuse a model if it stands behind the last
layer.

| operator | versions (by opset) | cases | passed | in the student |
| --- | --- | ---: | ---: | --- |
"""


def render() -> str:
    """Return the page."""
    cases = backend_cases()
    names = sorted({OPERATORS[key].op for key in OPERATORS if not OPERATORS[key].domain})
    newest = onnx.defs.onnx_opset_version()
    everything = [case.name for group in cases.values() for case in group]
    left_out = [name for name in everything if reason_not_to_run(name) is not None]
    versions = {op: [v for v in registry.versions(op) if v <= newest] for op in names}
    text = HEAD.format(
        operators=len(names),
        versions=sum(map(len, versions.values())),
        newest=newest,
        onnx=onnx.__version__,
        passed=len(everything) - len(left_out),
        total=len(everything),
    )
    for op in (*names, COMPOSED):
        total = [case.name for case in cases.get(op, ())]
        passed = [name for name in total if reason_not_to_run(name) is None]
        own = f" (tests/convert/{OWN_TESTS[op]})" if op in OWN_TESTS else ""
        listed = ", ".join(map(str, versions.get(op, ())))
        how = "" if op == COMPOSED else treatment(op)
        text += f"| {op} | {listed} | {len(total)}{own} | {len(passed)} | {how} |\n"
    return text + _left_out(left_out)


def _left_out(names: list[str]) -> str:
    reasons: dict[str, list[str]] = {reason: [] for reason in NOT_RUN.values()}
    for name in names:
        reasons[str(reason_not_to_run(name))].append(name)
    text = "\n## Cases that are not run\n"
    for reason, group in reasons.items():
        listed = ", ".join(f"`{name}`" for name in sorted(set(group)))
        text += f"\n{reason[0].upper()}{reason[1:]} ({len(group)}): {listed}.\n"
    return text


def treatment(op: str) -> str:
    """Return how a node between two Conv is treated."""
    return REWRITTEN.get(op) or TREATMENT[_role(op)]


def _role(op: str) -> str:
    """Ask `assign_roles` about  x -> Conv -> op -> Conv."""
    if op in {"Conv", "Gemm", "MatMul"}:
        return "layer"
    opset = max(v for v in registry.versions(op) if v <= onnx.defs.onnx_opset_version())
    schema = onnx.defs.get_schema(op, opset)
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    made = schema.outputs[0].type_str
    real = "tensor(float)" in allowed.get(made, {made})
    needs = [
        i for i in schema.inputs if i.option != onnx.defs.OpSchema.FormalParameterOption.Optional
    ]
    kind = ir.TensorType(ir.DataType.FLOAT)
    image = ir.Value(name="x", type=kind, shape=ir.Shape(["N", 3, 8, 8]))
    graph = ir.Graph([image], [], nodes=[], opset_imports={"": 21})
    last = image
    for node_op, count in (("Conv", 0), (op, max(len(needs), 1)), ("Conv", 0)):
        if node_op == "Conv":
            inputs = [last, *(add_initializer(graph, f"{len(graph)}/{k}", _noise(k)) for k in "wb")]
        else:
            inputs = [last, image, *[last] * count][:count]  # a product of one value is a square
        node = ir.node(node_op, inputs, name=f"{node_op}{len(graph)}")
        node.outputs[0].name = f"v{len(graph)}"
        node.outputs[0].type = (
            kind if node_op == "Conv" or real else ir.TensorType(ir.DataType.INT64)
        )
        graph.append(node)
        last = node.outputs[0]
    graph.outputs.append(last)
    return assign_roles(graph, ONNXRUNTIME_CPU).of[next(n for n in graph if n.name == f"{op}1")]


def _noise(kind: str) -> object:
    import numpy as np

    return np.ones((3, 3, 1, 1) if kind == "w" else 3, np.float32)


def summary() -> Counter[str]:
    """Count the cases by what became of them."""
    names = [case.name for group in backend_cases().values() for case in group]
    return Counter("left out" if reason_not_to_run(n) else "run" for n in names)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
