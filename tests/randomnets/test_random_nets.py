"""Any network that the parts compose: imported, quantized and exported, against ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.shape_check import check_shapes
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.equalization.activation_balancing import (
    balance_activation_channels,
    find_balanced_quantizers,
)
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.session import Session
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.randomnets.grow import PARTS, grow, pixels

IMAGES = 8
NETWORKS = {
    "parts": st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=7),
    "seed": st.integers(0, 2**20),
    "opset": st.sampled_from([7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25]),
    "batch": st.sampled_from(["N", "N", 1, 4]),
    "bits": st.sampled_from(["4", "8", "w4a8", "w2a4"]),
}
SETTLED = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def check(parts: list[str], seed: int, opset: int, batch: int | str, bits: str) -> None:
    torch.set_num_threads(1)
    proto = grow(parts, seed=seed, opset=opset, batch=batch)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "net.onnx"
        onnx.save(proto, path)
        x = pixels(proto, IMAGES)
        expected = Session(path, optimization="off").run_batched({"x": x})
        model = truncate_at_unsupported(normalize(load(path)))
        program = to_program(model)
        check_shapes(program, model.input_shape)
        with torch.no_grad():
            (found,), _ = ProgramModule(program, outputs=program.outputs)(torch.from_numpy(x))
        (wanted,) = expected.values()
        # float32 sums in another order, BatchNorm and constants folded: 1e-4 of the largest value
        np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
        sites = place_quantizers(
            model, QuantizationConfig(BitWidths.parse(bits)), ONNXRUNTIME_CPU, input_signed=True
        )
        groups = find_scale_groups(program, sites)
        shared = find_balanced_quantizers(groups, sites)
        factors = torch.from_numpy(np.exp(np.random.default_rng(0).uniform(-1, 1, groups.count)))
        factors *= balance_activation_channels(
            program, shared, groups, torch.from_numpy(x), strength=0.3
        )
        with torch.no_grad():
            scaled = ProgramModule(groups.scale(program, factors.float()), outputs=program.outputs)
            (same,), _ = scaled(torch.from_numpy(x))
        np.testing.assert_allclose(same.numpy(), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
        student = Student(program, sites).eval()
        student.initialize([torch.from_numpy(x)])
        target = Path(name) / "net.q.onnx"
        write(export(model, sites, student.qparams()), target)
        with torch.no_grad():
            fed = torch.from_numpy(x)
            run = StudentOutputs(student.codes(fed), student(fed)[0].numpy())
        parity = measure_parity(target, x, torch_run=run)
    assert parity is not None
    assert parity.off_vs_torch is not None
    # equal codes in, a value near a tie between two codes out: one level, and rarely; but halfway
    # between two codes, where interpolation puts many pixels, is a tie, which float32 breaks anyhow
    rarely = 0.1 if "resize" in parts else 0.01
    assert parity.off_vs_torch.largest <= 1, parity.off_vs_torch
    assert parity.off_vs_torch.fraction <= rarely, parity.off_vs_torch


@pytest.mark.parametrize("opset", [7, 9, 10, 11])
def test_an_upsampled_image_keeps_the_coordinates_of_its_opset(opset: int) -> None:
    for seed in (1, 2, 3, 4):  # nearest and linear; by 2, 3 and 1.5
        check(["resize"], seed, opset, "N", "8")


@settings(SETTLED, max_examples=25)
@given(**NETWORKS)
def test_any_small_network_is_imported_quantized_and_exported_faithfully(
    parts: list[str], seed: int, opset: int, batch: int | str, bits: str
) -> None:
    check(parts, seed, opset, batch, bits)


@pytest.mark.slow
@settings(SETTLED, max_examples=500)
@given(**NETWORKS)
def test_five_hundred_networks_are_imported_quantized_and_exported_faithfully(
    parts: list[str], seed: int, opset: int, batch: int | str, bits: str
) -> None:
    check(parts, seed, opset, batch, bits)
