"""The linter finds each planted cause, only it, and nothing in files without a fault.

What ONNX Runtime really does with a file is the reference for what a rule says of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_static

import dfqonnx
from dfqonnx.core.quantization import BitWidths
from dfqonnx.errors import InternalError, UsageError
from dfqonnx.lint.lint import LintResult, lint_file
from dfqonnx.lint.rule import RULES, everywhere, register_rule
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.runtime.session import Session
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS
from tests.export.qnets import chain, export_net
from tests.export.qnets import residual as residual_net
from tests.lint.bad_files import BAD_FILES, RandomImages, good, residual, static
from tests.lint.qdq_nets import INT8, SIZE, QdqNet
from tests.targets.made import Made
from tests.targets.test_profiles import CASES

BESIDE = {  # rules that a file breaks as well, for the same cause
    "uint16_at_opset_17": {"16-bit-activations"},
    "uint8_in_uint16_out": {"16-bit-activations"},
}


def names(result: LintResult) -> set[str]:
    return {finding.rule.name for finding in result.findings}


@pytest.mark.parametrize("name", BAD_FILES)
def test_each_cause_is_found_under_its_name(name: str, tmp_path: Path) -> None:
    planted = BAD_FILES[name]
    found = names(lint_file(planted.build(tmp_path), planted.target))
    assert planted.rule in found


@pytest.mark.parametrize(
    "name", [n for n, bad in BAD_FILES.items() if bad.target == DEFAULT_TARGET]
)
def test_nothing_else_is_found_on_the_default_target(name: str, tmp_path: Path) -> None:
    planted = BAD_FILES[name]
    found = names(lint_file(planted.build(tmp_path)))
    assert found - BESIDE.get(name, set()) == {planted.rule}


def test_there_is_a_bad_file_for_every_rule() -> None:
    assert {bad.rule for bad in BAD_FILES.values()} == {RULES[name].name for name in RULES}
    assert len({bad.rule for bad in BAD_FILES.values()}) >= 15


def test_every_rule_concerns_a_target_and_says_what_it_rests_on() -> None:
    for rule in (RULES[name] for name in RULES):
        assert rule.targets, rule.name
        kinds = ("https://", "measured here", "profile", "closed form")
        assert any(kind in rule.source for kind in kinds)
        assert rule.cost
        assert rule.mend


def test_a_number_or_name_cannot_be_given_twice() -> None:
    for number, name in ((1, "another-name"), (999, "qoperator-format")):
        file = register_rule(number, name, "note", title="t", cost="c", mend="m", source="s")
        with pytest.raises(InternalError, match="registered twice"):
            file(lambda graph, target: iter(()))
        assert "QDQ999" not in RULES
    assert everywhere(TARGETS[DEFAULT_TARGET])


def test_a_file_without_a_fault_has_no_finding(tmp_path: Path) -> None:
    result = lint_file(good(tmp_path))
    assert result.findings == ()
    assert (result.layers, result.quantizers) == (4, 23)
    assert audit_kernels(tmp_path / "good.onnx").float_weighted == ()


@pytest.mark.parametrize("widths", ["w8a8", "w4a8", "w4a4"])
@pytest.mark.parametrize("net", [chain, residual_net])
def test_our_own_exports_have_none(widths: str, net: object, tmp_path: Path) -> None:
    assert callable(net)
    path = export_net(net().proto(), tmp_path, bits=BitWidths.parse(widths)).path
    assert lint_file(path).findings == ()


def test_a_float_model_has_none(tmp_path: Path) -> None:
    result = lint_file(residual(tmp_path))
    assert (result.findings, result.quantizers) == ((), 0)


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantize_static_with_uint8_activations_has_none(per_channel: bool, tmp_path: Path) -> None:
    path = static(
        tmp_path,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    assert lint_file(path).findings == ()
    assert audit_kernels(path).float_weighted == ()


FLOATS = [  # bad files whose layers run in float, so that the runtime can be asked which
    "static_with_int8_activations",
    "int8_codes_with_a_clip",
    "static_with_int4_weights",
    "static_with_uint16_activations",
    "uint8_in_uint16_out",
    "weights_alone",
    "output_left_in_float",
    "output_read_in_float_too",
    "two_quantizers_on_one_output",
    "hard_swish_behind_a_conv",
    "relu_before_a_zero_point_in_the_middle",
    "clip_below_the_range_of_its_quantizer",
    "batch_normalization_left",
    "sum_with_a_float_operand",
    "transposed_conv",
    "bias_with_one_scale",
]


@pytest.mark.parametrize("name", FLOATS)
def test_the_layers_named_are_those_that_onnx_runtime_leaves_in_float(
    name: str, tmp_path: Path
) -> None:
    path = BAD_FILES[name].build(tmp_path)
    result = lint_file(path)
    in_float = {node.name for node in audit_kernels(path).float_weighted}
    assert in_float
    assert in_float == set(result.suffering)


@pytest.mark.parametrize("name", ["uint4_activations", "sum_with_scales_in_lists"])
def test_what_is_said_not_to_load_does_not_load(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot load it"):
        Session(BAD_FILES[name].build(tmp_path))


@pytest.mark.parametrize("name", ["scales_along_the_inputs", "two_in_a_row"])
def test_what_is_said_to_compute_something_else_does(name: str, tmp_path: Path) -> None:
    path = BAD_FILES[name].build(tmp_path)
    image = np.random.default_rng(0).normal(size=(1, 4, SIZE, SIZE)).astype(np.float32)
    said, done = (Session(path, optimization=level).run({"x": image}) for level in ("off", "all"))
    assert not np.array_equal(said[0], done[0])


def test_the_share_is_that_of_the_layers_multiply_adds(tmp_path: Path) -> None:
    net = QdqNet()
    a = net.quantize(net.conv(net.quantize("x"), 8, name="stem"))
    y = net.conv(a, 2, name="last", kernel=1)
    result = lint_file(net.save(tmp_path / "net.onnx", y))
    (finding,) = result.findings
    last, stem = SIZE * SIZE * 2 * 8, SIZE * SIZE * 8 * 4 * 9
    assert finding.rule.name == "output-not-quantized"
    assert [place.node for place in finding.places] == ["last"]
    assert finding.share == last / (last + stem)


def test_only_the_branch_that_is_read_twice_is_blamed_for_int8(tmp_path: Path) -> None:
    path = BAD_FILES["static_with_int8_activations"].build(tmp_path)
    (finding,) = lint_file(path).findings
    assert finding.rule.level == "warning"
    assert all("read by 2 nodes" in place.detail for place in finding.places)
    assert finding.share is not None
    assert 0 < finding.share < 1


def test_the_target_is_the_one_that_the_file_records(tmp_path: Path) -> None:
    net = QdqNet()
    y = net.quantize(net.conv(net.quantize("x")))
    path = net.save(tmp_path / "net.onnx", y, **{"dfqonnx.target": "tensorrt"})
    assert lint_file(path).target.name == "tensorrt"
    assert "unsigned-codes" in names(lint_file(path))
    assert names(lint_file(path, DEFAULT_TARGET)) == set()


def test_an_unknown_target_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'tensorrt'"):
        lint_file(good(tmp_path), "tensort")


OURS = [
    (name, net, bits)
    for name, net, bits in CASES
    if net == ("projected" if "HardSwish" in TARGETS[name].kernels else "residual")
]


@pytest.mark.parametrize(("name", "net", "bits"), OURS, ids=str)
def test_files_of_our_own_have_no_finding_on_the_target_they_are_for(
    name: str, net: str, bits: str, tmp_path: Path
) -> None:
    made = Made(TARGETS[name], net, bits, tmp_path)
    result = lint_file(made.path)
    assert result.target.name == name
    assert names(result) == set()


def test_parameters_that_are_computed_or_constant_nodes_are_read_as_far_as_they_can(
    tmp_path: Path,
) -> None:
    """PyTorch writes scales as Constant nodes; computed ones tell nothing, and break nothing."""
    net = QdqNet()
    scale = net.node("Constant", [], value=onnx.numpy_helper.from_array(np.float32(0.0)))
    zero = net.tensor(np.int8(0))
    x = net.node("QuantizeLinear", ["x", scale, zero])
    x = net.node("DequantizeLinear", [x, net.node("Exp", [scale]), zero])
    net.channels[x] = 4
    found = names(lint_file(net.save(tmp_path / "net.onnx", net.quantize(net.conv(x)))))
    assert "bad-scale" in found
    assert INT8 is np.int8


def test_a_graph_of_loops_and_nothing_is_read_to_the_end(tmp_path: Path) -> None:
    """Nodes without inputs, readers of themselves and names that nobody makes."""
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["r"]),
        onnx.helper.make_node("QuantizeLinear", ["r", "s"], ["q"]),
        onnx.helper.make_node("Relu", ["r2"], ["r2"]),
        onnx.helper.make_node("QuantizeLinear", [], ["q3"]),
        onnx.helper.make_node("Conv", ["r", "nowhere"], ["y"]),
        onnx.helper.make_node("Constant", [], ["empty"]),
        onnx.helper.make_node("QuantizeLinear", ["y"], []),
        onnx.helper.make_node("QuantizeLinear", ["empty", "s"], ["q4"], axis=0.5),
        onnx.helper.make_node("Conv", ["q4"], ["y4"]),
        onnx.helper.make_node("DequantizeLinear", ["y4", "s"], ["r4"], axis=[1, 2]),
        onnx.helper.make_node("AveragePool", ["r4"], ["p4"], ceil_mode=b"yes", dilations=7),
        onnx.helper.make_node("Clip", ["p4", "y4", ""], ["q5"], min=b"low"),
    ]
    graph = onnx.helper.make_graph(nodes, "odd", [], [])
    path = tmp_path / "odd.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    for target in TARGETS:
        assert lint_file(path, target).layers == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_resnet20_folded", "imagenet_mobilenetv1_025_bn"])
def test_real_networks_through_ptq_have_none_and_int8_activations_are_named(
    name: str, shared: Path, tmp_path: Path
) -> None:
    source = shared / "models" / f"{name}.onnx"
    made = dfqonnx.quantize(source, "w4a8", recipe="ptq", out=tmp_path / "out")
    assert lint_file(made.student).findings == ()
    assert audit_kernels(made.student).float_weighted == ()
    shape = [d.dim_value or 1 for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim]
    fed = onnx.load(source).graph.input[0].name
    path = tmp_path / "int8.onnx"
    quantize_static(
        source,
        path,
        RandomImages(fed, tuple(shape)),
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    result = lint_file(path)
    named = {layer for layer, rule in result.suffering.items() if rule.level != "note"}
    assert {node.name for node in audit_kernels(path).float_weighted} == named
    assert any(finding.startswith("int8-activations") for finding in names(result))
