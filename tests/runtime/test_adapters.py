"""Other runtimes: which of them proves a target, whether it is at hand, and what it says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from dfqonnx.core.quantization import BitWidths
from dfqonnx.runtime.adapters.execute import Execution, Layer, execute, fix_sizes
from dfqonnx.runtime.adapters.runtime_audit import audit_execution, multiply_adds
from dfqonnx.runtime.adapters.runtimes import (
    ONNXRUNTIME,
    RUNTIMES,
    RuntimeAdapter,
    find_runtime,
    runtime_of,
)
from tests.export.qnets import chain, export_net, residual
from tests.runtime.fake_runtime import make_interpreter

OPENVINO, QNN = RUNTIMES["openvino"], RUNTIMES["onnxruntime-qnn"]
INSTALLED = [
    pytest.param(
        RUNTIMES[name],
        marks=pytest.mark.skipif(
            find_runtime(RUNTIMES[name]) is None,
            reason=f"{RUNTIMES[name].title} is not at hand: {RUNTIMES[name].advice}",
        ),
        id=name,
    )
    for name in RUNTIMES
]


def test_a_target_has_at_most_one_runtime_and_some_have_none() -> None:
    targets = [target for name in RUNTIMES for target in RUNTIMES[name].targets]
    assert len(targets) == len(set(targets))
    assert runtime_of("openvino") is OPENVINO
    assert runtime_of("onnxruntime-cpu") is ONNXRUNTIME
    assert runtime_of("tensorrt") is None


def test_a_runtime_is_looked_for_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFQONNX_PYTHON_OPENVINO", str(tmp_path / "nowhere"))
    assert find_runtime(OPENVINO) is None
    python = make_interpreter(tmp_path, version="3.2.1")
    monkeypatch.setenv("DFQONNX_PYTHON_OPENVINO", str(python))
    found = find_runtime(OPENVINO)
    assert found is not None
    assert (found.command[0], found.version) == (str(python), "3.2.1")


def test_the_modules_of_node_must_hold_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = RUNTIMES["onnxruntime-web"]
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert find_runtime(web, str(tmp_path)) is None
    (tmp_path / "onnxruntime-web").mkdir()
    package = tmp_path / "onnxruntime-web" / "package.json"
    package.write_text("{")
    assert find_runtime(web, str(tmp_path)) is None
    package.write_text('{"version": "1.30.0"}')
    found = find_runtime(web, str(tmp_path))
    assert found is not None
    assert found.version == "1.30.0"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find_runtime(web, str(tmp_path)) is None


@pytest.mark.parametrize("adapter", INSTALLED)
def test_a_runtime_computes_what_the_file_says(adapter: RuntimeAdapter, tmp_path: Path) -> None:
    """Against ONNX Runtime without optimizations; a code may differ by a level here and there."""
    found = export_net(residual().proto(), tmp_path, bits=BitWidths(8, 8))
    place = find_runtime(adapter)
    assert place is not None
    x = np.stack([found.x[k : k + 1] for k in range(4)])
    done = execute(adapter, place, found.path, x, teacher=found.source, turn_seconds=0.01)
    assert (done.failure, done.loads, done.runs) == ("", True, True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(found.path, options)
    expected = session.run(None, {"image": found.x[:4]})[0]
    noise = np.square(np.concatenate(done.outputs[0]) - expected).sum()
    assert 10 * math.log10(np.square(expected - expected.mean(0)).sum() / noise) > 20
    audited = audit_execution(adapter, fix_sizes(found.proto, x.shape[1:]), done)
    if audited is not None:
        assert audited.share == 1.0
        assert audited.audit.float_weighted == ()


def test_the_worker_times_both_files_and_keeps_the_executed_graph(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path, bits=BitWidths(8, 8))
    place = find_runtime(ONNXRUNTIME)
    assert place is not None
    x = found.x[:2][:, None]
    done = execute(ONNXRUNTIME, place, found.path, x, teacher=found.source, turn_seconds=0.01)
    assert done.version == onnxruntime.__version__
    assert len(done.turns) >= 5
    assert (done.turns > 0).all()
    assert done.executed is not None
    assert "QLinearConv" in {node.op_type for node in done.executed.graph.node}


@pytest.mark.parametrize(
    ("stage", "error", "loads", "runs", "words"),
    [
        ("load", "no kernel for\n Foo", False, False, "OpenVINO does not load the file: no kernel"),
        ("run", "bad alloc", True, False, "OpenVINO loads the file but does not run it: bad alloc"),
        ("import", "no libtbb", False, False, "OpenVINO cannot be started: no libtbb"),
        ("time", "float file is strange", True, True, ""),
    ],
)
def test_a_failure_says_how_far_the_runtime_came(
    tmp_path: Path, stage: str, error: str, loads: bool, runs: bool, words: str
) -> None:
    found = export_net(chain().proto(), tmp_path, bits=BitWidths(8, 8))
    place = find_runtime(OPENVINO, str(make_interpreter(tmp_path, stage=stage, error=error)))
    assert place is not None
    done = execute(OPENVINO, place, found.path, found.x[:1][:, None])
    assert (done.loads, done.runs) == (loads, runs)
    assert done.failure.startswith(words)
    assert bool(done.failure) == bool(words)


def test_a_runtime_that_dies_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path, bits=BitWidths(8, 8))
    python = make_interpreter(tmp_path)
    python.write_text("#!/bin/sh\ncase $* in *-c*) echo 1;; *) kill -11 $$;; esac\n")
    place = find_runtime(OPENVINO, str(python))
    assert place is not None
    done = execute(OPENVINO, place, found.path, found.x[:1][:, None])
    assert not done.loads
    assert "killed by signal 11" in done.failure


NET = """
<ir_version: 8, opset_import: ["": 13]>
net (float[1, 3, 8, 8] x) => (float[1, 5] y)
<float s = {0.1}, uint8 z = {0}, float[1] t = {0.1}, int8[4, 3, 3, 3] w, float[4, 5] v>
{
    q = QuantizeLinear(x, s, z)
    d = DequantizeLinear(q, s, z)
    k = DequantizeLinear(w, s)
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (d, k)
    g = GlobalAveragePool(c)
    f = Flatten(g)
    y = MatMul(f, v)
}
"""


def test_multiply_adds_are_those_of_one_run() -> None:
    """4 outputs of 4 x 4 from 3 x 3 x 3, and 5 outputs from 4."""
    proto = onnx.parser.parse_model(NET)
    assert multiply_adds(proto) == {"c": 4 * 4 * 4 * 3 * 3 * 3, "y": 5 * 4}


def test_layers_are_integer_by_the_precision_that_the_runtime_reports() -> None:
    proto = onnx.parser.parse_model(NET)
    layers = (
        Layer(("c/WithoutBiases", "Multiply_9"), "Convolution", "u8", "CPU"),
        Layer(("g",), "Reduce", "f32", "CPU"),
        Layer(("y",), "FullyConnected", "f32", "CPU"),
    )
    done = Execution(version="1", loads=True, runs=True, layers=layers)
    found = audit_execution(OPENVINO, proto, done)
    assert found is not None
    assert found.share == pytest.approx(1728 / (1728 + 20))
    assert dict(found.audit.integer_nodes) == {"Convolution": 1}
    reasons = {node.name: node.reason for node in found.audit.float_nodes}
    assert reasons == {"g": "OpenVINO computes it in f32", "y": "OpenVINO computes it in f32"}


def test_a_layer_that_the_runtime_does_not_name_is_not_called_integer() -> None:
    layers = (Layer(("y",), "FullyConnected", "u8", "CPU"),)
    done = Execution(version="1", loads=True, runs=True, layers=layers)
    found = audit_execution(OPENVINO, onnx.parser.parse_model(NET), done)
    assert found is not None
    assert [node.name for node in found.audit.float_weighted] == ["c"]


def test_partitions_of_an_accelerator_hold_what_is_quantized_in_the_file() -> None:
    layers = (
        Layer(("",), "QuantizeLinear", "", "CPUExecutionProvider 0"),
        Layer(("c_token_12",), "Conv", "", "QNNExecutionProvider 1"),
        Layer(("g",), "GlobalAveragePool", "", "QNNExecutionProvider 1"),
        Layer(("y",), "MatMul", "", "CPUExecutionProvider 2"),
    )
    proto = onnx.parser.parse_model(
        NET.replace("c = Conv", "[c] c = Conv").replace("y = M", "[y] y = M")
    )
    done = Execution(version="1", loads=True, runs=True, layers=layers)
    found = audit_execution(QNN, proto, done)
    assert found is not None
    assert found.partitions == 1
    assert found.elsewhere == ("QuantizeLinear", "MatMul")
    assert dict(found.audit.integer_nodes) == {"Conv": 1}
    reasons = {node.name: node.reason for node in found.audit.float_weighted}
    assert reasons == {"y": "QNN HTP (emulated) leaves it to the CPU"}


def test_sizes_are_fixed_wherever_their_name_stands() -> None:
    proto = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["": 13]>
net (float[N, 3, H, H] x) => (float[N, 3, H, H] y) { y = Relu(x) }
""")
    fixed = fix_sizes(proto, (2, 3, 5, 5))
    onnx.checker.check_model(fixed, full_check=True)
    dims = [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim]
    assert dims == [2, 3, 5, 5]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
