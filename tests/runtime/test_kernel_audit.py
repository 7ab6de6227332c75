"""The audit names what stayed in float, in the user's words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from dfqonnx.core.quantization import BitWidths
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.runtime.kernel_audit import audit_kernels
from tests.export.qnets import Net, chain, export_net, residual


def test_a_quantized_network_has_integer_nodes_only(tmp_path: Path) -> None:
    found = audit_kernels(export_net(residual().proto(), tmp_path).path)
    assert found.float_nodes == ()
    assert found.integer_nodes["QLinearConv"] == 7
    assert found.integer_nodes["QGemm"] == 1
    assert found.conversions["QuantizeLinear"] >= 1


def test_a_conv_without_output_quantizer_is_named_with_that_reason(tmp_path: Path) -> None:
    def without(sites: QuantizationPlan) -> QuantizationPlan:
        kept = tuple(s for s in sites.activations if s.tensor != "c2_out")
        return replace(sites, activations=kept)

    found = audit_kernels(export_net(residual().proto(), tmp_path, change=without).path)
    named = {node.name: node for node in found.float_weighted}
    assert set(named) == {"c2"}
    assert named["c2"].op == "Conv"
    assert "not quantized" in named["c2"].reason
    assert "'c2_out'" in named["c2"].reason


def test_a_float_file_is_all_float_under_the_users_names(tmp_path: Path) -> None:
    found = audit_kernels(export_net(chain().proto(), tmp_path).source)
    named = {node.name: node for node in found.float_weighted}
    assert set(named) == {"stem", "c1", "fc"}
    assert named["stem"].reason == "its weight is float"
    assert not found.integer_nodes


def test_an_operator_without_integer_kernel_is_named(tmp_path: Path) -> None:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu")
    a = net.add("Elu", a, name="elu")
    net.head(net.add("Relu", net.conv(a, "c1", (8, 8, 3, 3)), name="relu1"), 8)
    found = audit_kernels(export_net(net.proto(), tmp_path, bits=BitWidths(8, 8)).path)
    reasons = {node.reason for node in found.float_nodes}
    assert any("no integer kernel" in reason for reason in reasons)


def test_true_int4_weights_are_told_apart(tmp_path: Path) -> None:
    proto = export_net(chain().proto(), tmp_path).proto
    casts = [n for n in proto.graph.node if n.op_type == "Cast"]
    for cast in casts:
        reader = next(n for n in proto.graph.node if cast.output[0] in n.input)
        reader.input[0] = cast.input[0]
        zero = next(t for t in proto.graph.initializer if t.name == reader.input[2])
        size = zero.dims[0]
        name = f"zero4_{cast.output[0]}"
        proto.graph.initializer.append(
            onnx.helper.make_tensor(name, onnx.TensorProto.INT4, [size], [0] * size)
        )
        reader.input[2] = name
        proto.graph.node.remove(cast)
    path = tmp_path / "int4.onnx"
    onnx.save(proto, path)
    found = audit_kernels(path)
    convs = [node for node in found.float_weighted if node.op == "Conv"]
    assert {node.name for node in convs} == {"stem", "c1"}
    assert all("4-bit" in node.reason for node in convs)


@pytest.mark.parametrize("name", ["own_resnet20_cifar10", "imagenet_mobilenetv1_025_nhwc_folded"])
def test_real_networks_leave_no_weighted_node_in_float(
    name: str, shared: Path, tmp_path: Path
) -> None:
    proto = onnx.load(shared / "models" / f"{name}.onnx")
    found = audit_kernels(export_net(proto, tmp_path).path)
    assert found.float_weighted == ()
