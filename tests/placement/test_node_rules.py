"""Nodes that the user keeps in float or gives other widths: by name, by pattern, by operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.config.placement import PlacementConfig, read_rules
from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.errors import UsageError
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import network, through

CONV = {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), "u": (4, 4, 3, 3), "k": (5, 4)}
P = "Conv<pads=[1,1,1,1]>"
BODY = (
    f"a = {P}(x, w) b = Relu(a) c = {P}(b, v) d = Relu(c) e = {P}(d, u) h = Relu(e) "
    "g = GlobalAveragePool(h) f = Flatten(g) y = Gemm<transB=1>(f, k)"
)


def plan_of(folder: Path, rules: NodeRules, *, ends: int | None = None) -> QuantizationPlan:
    """W4A4 placement of a chain of three Conv and a Gemm, named by their outputs."""
    proto = network(BODY, CONV)
    for node in proto.graph.node:
        node.name = f"/block/{node.output[0]}"
    quant = QuantizationConfig(BitWidths(4, 4), first_last_bits=ends)
    model = through(proto, folder)[1]
    return place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True, rules=rules)


def widths(plan: QuantizationPlan) -> dict[str, tuple[int, int]]:
    """Layer -> bits of its weights and of what it reads."""
    reads = {quantizer.name: quantizer.grid.bits for quantizer in plan.activations}
    return {w.node[-1]: (w.grid.bits, reads[w.input]) for w in plan.weights}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("/block/c", "c"), ("c", "c"), ("/block/[ce]", "ce"), ("*c", "c"), ("Gemm", "y"),
        ("Conv", "ace"), ("*/block/a*", "a"),
    ],
)  # fmt: skip
def test_nodes_stay_in_float_by_name_tensor_pattern_and_operator(
    tmp_path: Path, pattern: str, kept: str
) -> None:
    plan = plan_of(tmp_path, NodeRules(keep_float=(pattern,)))
    assert {w.node[-1] for w in plan.weights} == set("acey") - set(kept)
    reasons = {node.node[-1]: node.reason for node in plan.floats if node.op in {"Conv", "Gemm"}}
    assert reasons == dict.fromkeys(kept, f"kept in float as asked ({pattern})")


def test_widths_are_given_to_some_layers_and_the_last_rule_counts(tmp_path: Path) -> None:
    assert widths(plan_of(tmp_path, NodeRules())) == {
        "a": (4, 8), "c": (4, 4), "e": (4, 4), "y": (4, 8),
    }  # fmt: skip
    rules = NodeRules(bits_for=(("Conv", BitWidths(8, 8)), ("/block/e", BitWidths(2, 3))))
    assert widths(plan_of(tmp_path, rules)) == {
        "a": (8, 8), "c": (8, 8), "e": (2, 3), "y": (4, 8),
    }  # fmt: skip
    assert widths(plan_of(tmp_path, rules, ends=6))["a"] == (8, 8), "nearer than --strict-ends"
    assert widths(plan_of(tmp_path, rules, ends=6))["y"] == (6, 8)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (NodeRules(keep_float=("blok/c",)), r"keep.float blok/c: means no node; did you mean"),
        (NodeRules(keep_float=("block",)), r"names like it: /block/a, /block/b"),
        (NodeRules(keep_float=("Convv",)), r"did you mean 'Conv'\? Operators: Conv, Flatten"),
        (NodeRules(bits_for=(("Relu", BitWidths(8, 8)),)), r"means only Relu; .* Conv, Gemm or"),
        (NodeRules(bits_for=(("head*", BitWidths(8, 8)),)), r"bits.for head\*=w8a8: means no"),
        (NodeRules(keep_float=("Conv", "Gemm")), r"nothing would be quantized"),
    ],
)
def test_a_rule_that_means_nothing_is_refused_with_near_names(
    tmp_path: Path, rules: NodeRules, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan_of(tmp_path, rules)


def test_rules_that_a_file_records_need_not_fit(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, NodeRules(keep_float=("elsewhere", "c"), required=False))
    assert {w.node[-1] for w in plan.weights} == set("aey")


def test_rules_of_a_recipe_come_before_those_of_the_command() -> None:
    recipe = PlacementConfig(keep_float=("Softmax",), bits_for={"a*": "w8"}).rules()
    found = read_rules(["head*", "Softmax"], ["a*=4", "x=y=int8"], recipe)
    assert found.keep_float == ("Softmax", "head*")
    assert found.bits_for == (
        ("a*", BitWidths(8, 8)), ("a*", BitWidths(4, 4)), ("x=y", BitWidths(8, 8)),
    )  # fmt: skip
    assert read_rules([], {"b": 8}, NodeRules()).bits_for == (("b", BitWidths(8, 8)),)
    for wrong in ("a", "=8", "a=", "a=w9a9"):
        with pytest.raises(UsageError):
            read_rules([], [wrong], NodeRules())
    with pytest.raises(UsageError, match="a pattern is empty"):
        read_rules([" "], [], NodeRules())
