"""Sessions, and a whole validation of a small pair."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.data.labeled import load_eval_data
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.runtime.latency import measure_latency
from dfqonnx.runtime.session import Session, providers
from tests.export.ortrun import run
from tests.export.qnets import Net, chain, export_net, residual

PLAIN = InputFormat(Preprocessing(name="plain", scale=64.0, mean=(2.0,), std=(1.0,)), (3, 8, 8))


def test_a_fixed_batch_is_filled_up_and_cut_again(tmp_path: Path) -> None:
    net = Net((4, 3, 8, 8))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3)), name="relu0")
    net.head(a, 8)
    path = tmp_path / "net.onnx"
    onnx.save(net.proto(output_shape=(4, 5)), path)
    x = np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32)
    session = Session(path)
    assert session.batch == 4
    found = session.run_batched({"image": x})["fc_out"]
    expected = np.concatenate(
        [run(path, x[:4], optimize=True), run(path, x[3:], optimize=True)[1:]]
    )
    np.testing.assert_array_equal(found, expected)


def test_a_file_that_the_runtime_refuses_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UsageError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        Session(path)


def test_a_graph_that_cannot_be_written_is_no_fault_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(chain().proto(), path)
    Session(path, optimized_path=tmp_path / "optimized.onnx")
    with pytest.raises(EnvironmentProblem, match=r"cannot write the graph .* or set TMPDIR"):
        Session(path, optimized_path=tmp_path / "missing" / "optimized.onnx")
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(UsageError, match=r"net\.onnx: ONNX Runtime cannot load it"):
        Session(path, optimized_path=tmp_path / "optimized.onnx")


def test_wrong_feeds_are_a_usage_error(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    with pytest.raises(UsageError, match="cannot run the model"):
        Session(found.path).run({"image": np.zeros((1, 3, 2, 2), np.float32)})


def test_a_provider_that_is_not_there_is_named_with_the_command_that_brings_it(
    tmp_path: Path,
) -> None:
    if "CUDAExecutionProvider" in providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EnvironmentProblem, match="pip install"):
        Session(export_net(chain().proto(), tmp_path).path, provider="cuda")


def test_the_room_can_be_imported_without_the_runtime(root: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['onnxruntime'] = None\n"
        "import dfqonnx.evaluation.evaluate, dfqonnx.data.labeled\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_size_counts_what_lies_beside_the_file(tmp_path: Path) -> None:
    proto = export_net(residual().proto(), tmp_path).proto
    path = tmp_path / "big.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="big.data", size_threshold=0)
    found = measure_file(path)
    assert found.bytes == path.stat().st_size + (tmp_path / "big.data").stat().st_size


def test_latency_is_positive_and_its_quartiles_are_in_order(tmp_path: Path) -> None:
    found = export_net(chain().proto(), tmp_path)
    latency = measure_latency(found.source, found.path, found.x[:1], seconds=0.05)
    assert latency.teacher_ms > 0
    assert latency.student_ms > 0
    assert latency.low <= latency.speedup <= latency.high
    assert (latency.batch, latency.threads) == (1, 1)


def test_a_whole_validation_is_plain_data(tmp_path: Path) -> None:
    found = export_net(residual().proto(), tmp_path)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 5, 20))
    data = load_eval_data(tmp_path / "data.npz", (8, 8, 3), 5)
    result = evaluate(
        found.source,
        found.path,
        EvaluationData(inputs=PLAIN, pixels=x[:7], data=data),
        latency_seconds=0.05,
    )
    assert result.evaluation is not None
    assert result.evaluation.images == 20
    assert result.evaluation.drop is not None
    right = sum(
        sign * part.value
        for sign, part in (
            (1, result.evaluation.teacher_top1),
            (-1, result.evaluation.student_top1),
        )
        if part is not None
    )
    assert result.evaluation.drop.points.value == pytest.approx(right)
    assert result.synthetic is not None
    assert result.synthetic.images == 7
    assert result.synthetic.drop is None
    assert result.parity is not None
    assert result.parity.on_vs_off.largest <= 1
    assert result.audit.float_nodes == ()
    assert 0 < result.size_ratio < 1
    json.dumps(dataclasses.asdict(result))


def test_files_of_two_different_networks_are_no_pair(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = export_net(residual().proto(), tmp_path / "a")
    second = export_net(chain().proto(), tmp_path / "b")
    with pytest.raises(UsageError, match=r"is not a student of .*: input image"):
        evaluate(first.source, second.path, EvaluationData(inputs=PLAIN))
