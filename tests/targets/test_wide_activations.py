"""Activations of 16 bits: where they stand, what the file says, and what runtimes compute of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from dfqonnx.config.target_widths import advise_widths, check_widths
from dfqonnx.convert.importer import to_program
from dfqonnx.core.quantization import UINT8, BitWidths, NodeRules, QuantizationConfig
from dfqonnx.core.quantization_plan import ActivationParameters
from dfqonnx.errors import UnsupportedModel, UsageError
from dfqonnx.evaluation.code_forcing import CodeTensor
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.evaluation.rounding_ties import count_ties
from dfqonnx.export.activations import quantize
from dfqonnx.export.export import export
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.retarget import retarget
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.lint.lint import lint_file
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.fallback_reasons import WIDE
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.onnxruntime_cpu_legacy import ONNXRUNTIME_CPU_LEGACY
from dfqonnx.targets.onnxruntime_qnn import ONNXRUNTIME_QNN
from dfqonnx.targets.profile import TargetProfile
from tests.export.ortrun import run
from tests.export.qnets import Net, residual
from tests.targets.test_second_target import relu6

WIDE_CODES = {TensorProto.UINT16, TensorProto.INT16}


def made(
    net: Net, bits: str, target: TargetProfile, folder: Path, rules: Mapping[str, str] | None = None
) -> tuple[Path, NDArray[np.float32], StudentOutputs]:
    """Return the exported file, inputs, and what the torch student computes of them."""
    onnx.save(net.proto(), folder / "net.onnx")
    model = normalize(load(folder / "net.onnx"))
    asked = tuple((name, BitWidths.parse(text)) for name, text in (rules or {}).items())
    quant = QuantizationConfig(BitWidths.parse(bits))
    nodes = NodeRules(bits_for=asked)
    plan = place_quantizers(model, quant, target, input_signed=True, rules=nodes)
    student = Student(to_program(model), plan)
    x = torch.randn(16, *model.input_shape, generator=torch.Generator().manual_seed(0))
    student.initialize([x])
    path = folder / "student.onnx"
    write(export(model, plan, student.qparams(), metadata={"dfqonnx.target": target.name}), path)
    with torch.no_grad():
        return path, x.numpy(), StudentOutputs(student.codes(x), student(x)[0].numpy())


def code_types(path: Path) -> dict[str, set[int]]:
    """Node that computes -> element types of the codes that it reads and makes."""
    graph = onnx.load(path).graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, set[int]] = {}
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear", "Clip", "Relu", "Cast"}:
            continue
        for name in node.input:
            maker = makers.get(name)
            if maker is None or maker.op_type != "DequantizeLinear":
                continue
            codes = makers.get(maker.input[0])
            if codes is not None and codes.op_type != "Cast":
                found.setdefault(node.name, set()).add(kinds[maker.input[2]])
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        while maker is not None and maker.op_type in {"Clip", "Relu"}:
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type != "DequantizeLinear":
            found.setdefault(maker.name, set()).add(kinds[node.input[2]])
    return found


@pytest.mark.parametrize(
    ("bits", "rules"),
    [
        ("w8a16", {}), ("w4a16", {}), ("w8a8", {"c1": "w8a16", "add*": "w8a16"}),
        ("w8a16", {"c2": "w3a4", "stem": "w8a8"}), ("w4a4", {"last": "w2a16", "sum": "w8a16"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", [ONNXRUNTIME_CPU, ONNXRUNTIME_QNN], ids=lambda t: t.name)
@pytest.mark.parametrize("net", [residual, relu6])
def test_the_file_computes_what_was_trained(
    net: type[Net], target: TargetProfile, bits: str, rules: dict[str, str], tmp_path: Path
) -> None:
    if target is ONNXRUNTIME_QNN and ("w4a4" in bits or "w3a4" in rules.values()):
        pytest.skip("the HTP takes none of fewer than 8 bits")
    if bits == "w4a4":
        net, rules = relu6, rules
    elif rules and net is relu6:
        rules = {"point": "w8a16", "sum": "w8a16", "stem": "w8a8"}
    path, x, student = made(net(), bits, target, tmp_path, rules)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 21
    parity = measure_parity(path, x, torch_run=student)
    assert parity is not None
    for found in (parity.on_vs_off, parity.off_vs_torch):
        assert found is not None
        assert found.faulty == ()
        assert found.largest <= 1
    deployed = run(path, x, optimize=True)
    scale = np.abs(student.logits).max()
    # codes on a border move logits by 1 / 65,535 of the range, or 1 / 255 where they have 8 bits
    assert np.median(np.abs(deployed - student.logits)) <= 1e-4 * scale


def test_a_kernel_of_the_htp_reads_and_makes_codes_of_one_width(tmp_path: Path) -> None:
    for number, rules in enumerate(
        ({"c4": "w8a16"}, {"add1": "w8a16"}, {"c2": "w4a16", "c5": "w8a16"}, {"fc": "w8a16"})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, *_ = made(residual(), "w8a8", ONNXRUNTIME_QNN, folder, rules)
        kinds = code_types(path)
        assert {len(each) for each in kinds.values()} == {1}, (rules, kinds)
        for name in rules:
            assert kinds[name] <= WIDE_CODES
        assert any(TensorProto.UINT8 in each for each in kinds.values())


def test_what_a_layer_reads_with_16_bits_is_made_with_16_bits(tmp_path: Path) -> None:
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_QNN, tmp_path, {"c4": "w8a16"})
    kinds = code_types(path)
    wide = {name for name, each in kinds.items() if each <= WIDE_CODES}
    assert wide == {"c3", "c4"}  # and nothing further on
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"c4": "w8a16"})
    assert code_types(path)["c4"] == {TensorProto.UINT16, TensorProto.UINT8}


def test_all_activations_of_w8a16_have_16_bits(tmp_path: Path) -> None:
    for target in (ONNXRUNTIME_CPU, ONNXRUNTIME_QNN):
        path, *_ = made(relu6(), "w8a16", target, tmp_path)
        assert set().union(*code_types(path).values()) == {TensorProto.UINT16}


def test_nothing_stands_on_codes_of_16_bits_that_onnxruntime_does_not_have(tmp_path: Path) -> None:
    path, *_ = made(relu6(), "w8a16", ONNXRUNTIME_CPU, tmp_path)
    graph = onnx.load(path).graph
    codes = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    readers = {node.op_type for node in graph.node if codes & {*node.input}}
    assert readers == {"DequantizeLinear"}
    bounds = [node for node in graph.node if node.op_type == "Clip"]
    assert len(bounds) == 2, "ReLU6 stays on the reals"


def test_the_audit_says_that_codes_of_16_bits_have_no_integer_kernel(tmp_path: Path) -> None:
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"c4": "w8a16"})
    found = {node.name: node.reason for node in audit_kernels(path).float_nodes}
    assert found["c4"] == found["c3"] == WIDE
    assert "c1" not in found


@pytest.mark.parametrize(("zero", "low", "high"), [
    (0, 0, 65535), (32768, 0, 65535), (0, 0, 40000), (1000, 500, 3000), (65535, 0, 65535),
])  # fmt: skip
def test_codes_are_those_of_onnx_and_of_onnxruntime(zero: int, low: int, high: int) -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2001]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 21}, name="codes")
    editor = GraphEditor(graph, ONNXRUNTIME_CPU)
    nodes = quantize(editor, x, ActivationParameters(2.0**-9, zero, low, high), bits=16)
    graph.extend(nodes)
    made = nodes[-1].outputs[0]
    made.type, made.shape = x.type, x.shape
    graph.outputs.append(made)
    values = np.linspace(-200, 200, 2001, dtype=np.float32)  # halves of a step are among them
    values[:64] = (np.arange(64, dtype=np.float32) + 0.5) * 2.0**-9
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    codes = np.clip(np.rint(values * 2.0**9) + zero, low, high)
    expected = ((codes - zero) * 2.0**-9).astype(np.float32)
    np.testing.assert_array_equal(run(proto.SerializeToString(), values, optimize=True), expected)
    (reference,) = ReferenceEvaluator(proto).run(None, {"x": values})
    np.testing.assert_array_equal(reference, expected)


def test_a_tie_of_16_bits_is_as_wide_as_float32_makes_it() -> None:
    code = CodeTensor(quantizer="q", value="v", dtype=TensorProto.UINT16, scale=1.0)
    real = np.array([10.3, 10.6, 10.9, 10.5])
    found, expected = np.array([10, 11, 11, 10]), np.array([11, 10, 10, 12])
    assert count_ties(code, real, found, expected) == 2
    narrow = replace(code, dtype=TensorProto.UINT8)
    assert count_ties(narrow, real, found, expected) == 0


def test_biases_keep_their_weights_where_inputs_have_16_bits(tmp_path: Path) -> None:
    """A step of the input is 1 / 65,535 of its range, and biases are whole numbers of such steps.

    The weight's scale has to stay the one that fits the weight.
    """
    net = Net()
    a = net.conv("image", "stem", (8, 3, 3, 3))
    tensors = {t.name: t for t in net.tensors}
    bias = np.linspace(-40, 40, 8).astype(np.float32)
    tensors["stem.bias"].raw_data = bias.tobytes()
    net.head(net.add("Relu", a, name="relu"), 8)
    onnx.save(net.proto(), tmp_path / "net.onnx")
    model = normalize(load(tmp_path / "net.onnx"))
    scales = {}
    for bits in ("w8a8", "w8a16"):
        quant = QuantizationConfig(BitWidths.parse(bits))
        plan = place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True)
        student = Student(to_program(model), plan)
        student.initialize([torch.randn(4, *model.input_shape)])
        scales[bits] = student.qparams().weights["stem"].scale
        codes = student.qparams().weights["stem"].bias
        assert codes is not None
        assert np.abs(codes.astype(np.int64)).max() < 2**30
    np.testing.assert_array_equal(scales["w8a8"], scales["w8a16"])


def gates() -> Net:
    """A Sigmoid, a Tanh and a HardSigmoid between layers, each read by another Conv."""
    net = Net()
    a = net.conv("image", "stem", (8, 3, 3, 3))
    b = net.conv(net.add("Sigmoid", a, name="gate"), "c1", (8, 8, 1, 1))
    c = net.conv(net.add("Tanh", b, name="tanh"), "c2", (8, 8, 1, 1))
    d = net.conv(net.add("HardSigmoid", c, name="hard"), "c3", (8, 8, 1, 1))
    net.head(net.add("Relu", d, name="relu"), 8)
    return net


def test_sigmoid_and_tanh_have_the_codes_that_the_htp_gives_them(tmp_path: Path) -> None:
    onnx.save(gates().proto(), tmp_path / "net.onnx")
    model = normalize(load(tmp_path / "net.onnx"))
    for bits, known in (("w8a16", True), ("w8a8", False)):
        quant = QuantizationConfig(BitWidths.parse(bits))
        plan = place_quantizers(model, quant, ONNXRUNTIME_QNN, input_signed=True)
        student = Student(to_program(model), plan)
        student.initialize([3 * torch.randn(4, *model.input_shape)])
        found = student.qparams().activations
        codes = [
            (found[t].scale, found[t].zero_point) for t in ("gate_out", "tanh_out", "hard_out")
        ]
        assert (codes == [(2.0**-16, 0), (2.0**-15, 32768), (2.0**-16, 0)]) == known
        groups = student.parameter_groups()["scales"]
        assert len(groups) == len(plan.weights) + len(plan.activations) - 3 * known


def test_numbers_beside_16_bits_are_2_to_the_15_steps(tmp_path: Path) -> None:
    net = Net()
    a = net.add("HardSwish", net.conv("image", "stem", (8, 3, 3, 3)), name="swish1")
    a = net.add("Add", a, net.constant("less", np.float32(-0.7)), name="moved")
    a = net.add("HardSwish", net.conv(a, "c0", (8, 8, 3, 3), pads=[1] * 4), name="swish2")
    a = net.add("Mul", a, net.constant("third", np.float32(0.3)), name="scaled")
    a = net.add("Sigmoid", a, name="gate")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 1, 1)), name="relu"), 8)
    for bits, one in (("w8a16", 2**15), ("w8a8", 1)):
        path, x, student = made(net, bits, ONNXRUNTIME_QNN, tmp_path)
        graph = onnx.load(path).graph
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output}
        for name, codes in (("scaled", (one, 0, 0.3)), ("moved", (0, one, 0.7))):
            node = next(n for n in graph.node if n.name == name)
            code, scale, zero = (arrays[k] for k in makers[node.input[1]].input)
            assert (int(code), int(zero)) == codes[:2]
            assert scale == np.float32(codes[2]) / np.float32(one)
        parity = measure_parity(path, x, torch_run=student)
        assert parity is not None
        assert parity.off_vs_torch is not None
        assert parity.off_vs_torch.faulty == ()


def test_a_shortcut_of_16_bits_multiplies_by_64_steps_of_a_64th(tmp_path: Path) -> None:
    for bits, expected in (("w4a16", 64), ("w4a8", 1)):
        path, *_ = made(residual(), bits, ONNXRUNTIME_QNN, tmp_path)
        graph = onnx.load(path).graph
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        makers = {name: node for node in graph.node for name in node.output}
        (shortcut,) = [n for n in graph.node if n.op_type == "Conv" and len(n.input) == 2]
        codes, scale = (makers[shortcut.input[1]].input[k] for k in (0, 1))
        source = codes if codes in arrays else makers[codes].input[0]
        ones = arrays[source].astype(np.int64)
        assert set(np.unique(ones)) == {0, expected}
        assert set(arrays[scale].tolist()) == {1 / expected}


def test_the_linter_knows_who_runs_codes_of_16_bits(tmp_path: Path) -> None:
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_QNN, tmp_path, {"c4": "w8a16"})
    assert findings(path, "onnxruntime-qnn") == set()
    for name in ("onnxruntime-cpu", "tensorrt", "portable"):
        assert "16-bit-activations" in findings(path, name)
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"add1": "w8a16"})
    places = {
        place.node
        for finding in lint_file(path, "onnxruntime-qnn").findings
        if finding.rule.name == "activation-kinds-mixed"
        for place in finding.places
    }
    assert "add1" in places or "c2" in places


def test_a_file_with_codes_of_16_bits_is_converted_where_that_is_exact(tmp_path: Path) -> None:
    path, *_ = made(gates(), "w8a16", ONNXRUNTIME_QNN, tmp_path)
    moved = retarget(path, ONNXRUNTIME_CPU).model
    assert moved.opset_imports[""] == 21
    with pytest.raises(UnsupportedModel, match="codes have 16 bits"):
        retarget(path, ONNXRUNTIME_CPU_LEGACY)
    path, *_ = made(gates(), "w8a16", ONNXRUNTIME_CPU, tmp_path)
    with pytest.raises(UnsupportedModel, match="writes its results with the scale"):
        retarget(path, ONNXRUNTIME_QNN)
    path, *_ = made(residual(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"c4": "w8a16"})
    with pytest.raises(UnsupportedModel, match="codes of one width"):
        retarget(path, ONNXRUNTIME_QNN)


def findings(path: Path, target: str) -> set[str]:
    return {finding.rule.name for finding in lint_file(path, target).findings}


def test_a_target_without_codes_of_16_bits_refuses_them_with_the_reason() -> None:
    wide, narrow = (QuantizationConfig(BitWidths.parse(text)) for text in ("w8a16", "w8a8"))
    with pytest.raises(UsageError, match="bits w8a16: activations of 16 bits are none for"):
        check_widths(ONNXRUNTIME_CPU_LEGACY, wide, NodeRules())
    rules = NodeRules(bits_for=(("head*", BitWidths(8, 16)),))
    with pytest.raises(UsageError, match=r"bits.for head\* w8a16: .*; use bits w8a8"):
        check_widths(ONNXRUNTIME_CPU_LEGACY, narrow, rules)
    check_widths(ONNXRUNTIME_CPU, wide, rules)
    assert list(advise_widths(ONNXRUNTIME_CPU, narrow, NodeRules())) == []
    (said,) = advise_widths(ONNXRUNTIME_CPU, narrow, rules)
    assert "slower than the float model" in said


def test_a_rule_that_no_node_can_follow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="means only MaxPool"):
        made(relu6(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"pool0": "w8a16"})
    with pytest.raises(UsageError, match="means only Add"):
        made(relu6(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"sum": "w8a4"})
    with pytest.raises(UsageError, match="names like it: point"):
        made(relu6(), "w8a8", ONNXRUNTIME_CPU, tmp_path, {"*poin": "w8a16"})


def test_a_grid_of_16_bits_fills_its_container() -> None:
    assert UINT8.grid(16, negative=False).limits == (0, 65535)
    assert UINT8.grid(16).limits == (-32768, 32767)
    assert UINT8.grid(16).dtype == np.uint16
    signed = replace(UINT8, signed=True)
    assert (signed.grid(16).dtype, signed.grid(16, negative=False).zero_point) == (np.int16, -32768)
