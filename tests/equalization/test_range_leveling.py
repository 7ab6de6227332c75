"""Channels far apart: leveled where the next layer undoes it, by factors known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.equalization.range_leveling import find_leveled_quantizers, level_ranges
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.graph.smallnets import network, save

SPREAD = np.geomspace(1, 300, 16).astype(np.float32)
BODY = """
    c = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(c) d = Conv<pads = [1, 1, 1, 1]>(r, v, e)
    s = Relu(d) p = GlobalAveragePool(s) f = Flatten(p) y = Gemm<transB = 1>(f, g, h)
"""


def imbalanced(folder: Path, bits: BitWidths, *, undone: bool = True):  # type: ignore[no-untyped-def]
    """Return program and plan of a net with channels 1 : 300 apart; `undone` by the next Conv."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 16, 16, 3, 3)).astype(np.float32)
    columns = 1 / SPREAD if undone else np.ones_like(SPREAD)
    weights = {
        "w": first[:, :3] * SPREAD[:, None, None, None],
        "b": 0.1 * SPREAD,
        "v": second * columns[None, :, None, None],
        "e": rng.normal(size=16).astype(np.float32),
        "g": rng.normal(size=(10, 16)).astype(np.float32),
        "h": np.zeros(10, np.float32),
    }
    model = normalize(load(save(network(BODY, weights), folder)))
    quant = QuantizationConfig(bits)
    plan = place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True)
    return to_program(model), plan


def leveled(program, plan):  # type: ignore[no-untyped-def]
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    groups = find_scale_groups(program, plan)
    factors, count = level_ranges(program, find_leveled_quantizers(groups, plan), groups, x)
    return groups.scale(program, factors), groups, factors, count


def decibels(program, plan, reference: torch.Tensor, x: torch.Tensor) -> float:  # type: ignore[no-untyped-def]
    student = Student(program, plan)
    student.initialize([x])
    with torch.no_grad():
        error = student(x)[0] - reference
    return float(10 * torch.log10(reference.square().sum() / error.square().sum()))


@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(4, 4)])
def test_channels_that_the_next_layer_undoes_are_leveled_and_the_outputs_stay(
    bits: BitWidths, tmp_path: Path
) -> None:
    program, plan = imbalanced(tmp_path, bits)
    new, groups, factors, count = leveled(program, plan)
    assert count == 1
    found = groups.factors_of("c", factors) * torch.from_numpy(SPREAD)
    # maxima of 8 random maps differ by little beside 1 : 300
    assert float(found.max() / found.min()) < 4
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    before, after = ProgramModule(program)(x)[0], ProgramModule(new)(x)[0]
    # float32 products by factors that are no powers of two
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    if bits.activations == 8:  # 1 : 300 costs about 8 of 8 bits in the small channels
        assert decibels(new, plan, before, x) > decibels(program, plan, before, x) + 8


def test_channels_that_only_differ_in_what_they_matter_are_left(tmp_path: Path) -> None:
    """The next layer reads all alike: the large channels are the signal, the noise is theirs."""
    program, plan = imbalanced(tmp_path, BitWidths(8, 8), undone=False)
    _, _, factors, count = leveled(program, plan)
    assert count == 0
    assert bool((factors == 1).all())


def test_channels_of_two_layers_side_by_side_are_leveled_together(tmp_path: Path) -> None:
    """Leveled one after the other, neither gains: their neighbor still sets the common scale."""
    rng = np.random.default_rng(0)
    body = """
        a = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(x, u, e) s = Relu(c) j = Concat<axis = 1>(r, s)
        d = Conv<pads = [1, 1, 1, 1]>(j, v, h) t = Relu(d)
        p = GlobalAveragePool(t) f = Flatten(p) y = Gemm<transB = 1>(f, g)
    """
    both = np.concatenate([SPREAD, SPREAD])
    first, second = rng.normal(size=(2, 16, 3, 3, 3)) * SPREAD[:, None, None, None]
    weights = {
        "w": first, "u": second, "b": 0.1 * SPREAD, "e": 0.1 * SPREAD, "h": np.zeros(8),
        "v": rng.normal(size=(8, 32, 3, 3)) / both[None, :, None, None],
        "g": rng.normal(size=(10, 8)),
    }  # fmt: skip
    typed = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    model = normalize(load(save(network(body, typed), tmp_path)))
    quant = QuantizationConfig(BitWidths(8, 8))
    program, plan = (
        to_program(model),
        place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=True),
    )
    new, groups, factors, count = leveled(program, plan)
    assert count >= 1
    assert (factors[torch.from_numpy(groups.group["j"])] != 1).all()
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reference = ProgramModule(program)(x)[0]
    gained = decibels(new, plan, reference, x) - decibels(program, plan, reference, x)
    assert gained > 15  # measured 20
