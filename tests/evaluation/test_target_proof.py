"""A file in the runtime of its target: what is said of it, and what fails it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfqonnx.core.quantization import BitWidths
from dfqonnx.evaluation.target_proof import (
    EQUAL_DB,
    TargetProof,
    is_proved_here,
    prove_here,
    prove_in_target,
    target_of,
)
from dfqonnx.report.target_checks import check_target, target_lines
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.runtime.session import Session
from tests.export.qnets import Exported, chain, export_net
from tests.runtime.fake_runtime import make_interpreter


@pytest.fixture
def found(tmp_path: Path) -> Exported:
    return export_net(chain().proto(), tmp_path, bits=BitWidths(8, 8))


def prove(
    found: Exported, folder: Path, monkeypatch: pytest.MonkeyPatch, **answer: object
) -> TargetProof:
    python = make_interpreter(folder, **answer)  # type: ignore[arg-type]
    monkeypatch.setenv("DFQONNX_PYTHON_OPENVINO", str(python))
    return prove_in_target("openvino", (found.source, found.path), found.x[:8]).proof


def test_the_target_is_read_from_the_file(found: Exported, tmp_path: Path) -> None:
    assert target_of(found.path) == "onnxruntime-cpu"
    proto = onnx.load(found.path)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    assert target_of(tmp_path / "foreign.onnx") == "onnxruntime-cpu"


def test_the_default_target_is_proved_in_this_process_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_proved_here("onnxruntime-cpu")
    assert not is_proved_here("openvino")
    monkeypatch.setenv("DFQONNX_PYTHON_ONNXRUNTIME", "/somewhere/python")
    assert not is_proved_here("onnxruntime-cpu")


def test_a_file_proved_here_is_close_to_itself_as_written(found: Exported) -> None:
    audit = audit_kernels(found.path)
    trained = Session(found.path, optimization="off").run_batched({"image": found.x})["fc_out"]
    proof = prove_here(
        "onnxruntime-cpu", found.path, found.x, audit=audit, latency=None,
        trained=("fc_out", trained),
    )  # fmt: skip
    other = prove_here(
        "onnxruntime-cpu", found.path, found.x, audit=audit, latency=None,
        trained=("before_softmax", trained),
    )  # fmt: skip
    assert other.trained_parity_db is None
    assert proof.loads
    assert proof.integer_share == 1.0
    assert proof.sqnr_db is not None
    assert proof.sqnr_db > 30
    assert proof.trained_parity_db is not None
    assert proof.trained_parity_db > 30
    assert proof.images == min(30, len(found.x))


def test_equal_outputs_are_said_to_be_equal(
    found: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = prove(found, tmp_path, monkeypatch, turns=[[2.0, 1.0], [3.0, 1.0], [2.0, 1.0]])
    assert proof.speedup == 2.0
    assert proof.images == 8
    assert proof.sqnr_db is not None
    assert 30 < proof.sqnr_db <= EQUAL_DB
    assert all(gate.holds for gate in check_target(proof))


@pytest.mark.parametrize(("noise", "holds"), [(0.02, True), (0.5, False)])
def test_noise_in_the_runtime_is_measured_and_another_network_fails(
    found: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float, holds: bool
) -> None:
    """Noise of that share of the deviation, whose variance over 8 inputs is made unbiased."""
    proof = prove(found, tmp_path, monkeypatch, noise=noise)
    assert proof.sqnr_db == pytest.approx(10 * np.log10(8 / 7) - 20 * np.log10(noise), abs=0.01)
    assert proof.parity_db is not None
    assert proof.parity_db >= proof.sqnr_db - 10 * np.log10(8 / 7)  # a mean is power as well
    (_, close) = check_target(proof)
    assert close.holds is holds
    assert close.rule.endswith("to 20 dB")
    (_, close) = check_target(proof, 30.0)
    assert close.holds is holds, "little quantization noise leaves the limit where it is"


@pytest.mark.parametrize(("sqnr_db", "holds"), [(6.5, True), (6.7, False)])
def test_noise_in_the_runtime_may_be_as_strong_as_that_of_quantization(
    found: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqnr_db: float, holds: bool
) -> None:
    proof = prove(found, tmp_path, monkeypatch, noise=0.5)  # 6.6 dB, see above
    (_, close) = check_target(proof, sqnr_db)
    assert close.holds is holds
    assert close.rule.endswith(f"the quantization noise ({sqnr_db:.1f} dB)")


def test_a_file_that_its_target_does_not_load_fails(
    found: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = prove(found, tmp_path, monkeypatch, stage="load", error="no Cast(21)")
    (gate,) = check_target(proof)
    assert gate.holds is False
    assert gate.is_required
    assert gate.value == "OpenVINO does not load the file: no Cast(21)"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tensorrt", "rules only: no runtime of it can be asked"),
        ("openvino", "rules only: OpenVINO; not at hand: pip install 'dfqonnx[openvino]'"),
    ],
)
def test_where_the_runtime_is_not_at_hand_only_rules_are_known(
    found: Exported, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    monkeypatch.setenv("DFQONNX_PYTHON_OPENVINO", "/nowhere/python")
    proof = prove_in_target(target, (found.source, found.path), found.x).proof
    assert proof.is_rules_only
    (gate,) = check_target(proof)
    assert gate.holds is None
    assert gate.value.startswith(words)
    assert dict(target_lines(proof)) == {f"target {target}": gate.value}


def test_the_lines_of_a_report_say_what_was_seen() -> None:
    proof = TargetProof(
        target="onnxruntime-qnn", runtime="QNN HTP (emulated)", version="2.7.0", loads=True,
        parity_db=31.26, same=0.9, images=30, integer_share=0.5, partitions=1,
        elsewhere=("QuantizeLinear", "DequantizeLinear"),
    )  # fmt: skip
    assert list(target_lines(proof)) == [
        ("target onnxruntime-qnn", "QNN HTP (emulated) 2.7.0 loads and runs it"),
        ("there, to the file as written", "31.3 dB, same answer for 90.0 %, 30 inputs"),
        ("there, on integers", "50.0 % of the multiply-adds"),
        ("there, in parts", "1 part; left out: QuantizeLinear, DequantizeLinear"),
    ]
    timed = dict(target_lines(dataclasses.replace(proof, speedup=1.5)))
    assert timed["there, speed"] == "1.50 times the float model's"
