"""How much inputs count for a range, against closed forms and plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import UINT8
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.observed_values import NORM, ObservedValues
from dfqonnx.fakequant.scale_search import search_activation_scale
from dfqonnx.fakequant.student import Student

REACH = 8.0  # of probes, over that of inputs


def observe(inputs: torch.Tensor, probes: torch.Tensor | None = None) -> ObservedValues:
    found = ObservedValues()
    for part in inputs.split(4):
        found.add(part, probe=False)
    if probes is not None:
        found.add(probes, probe=True)
    return found


def test_a_sample_keeps_the_extremes_of_every_input_and_covers_every_column() -> None:
    x = torch.arange(16 * 64 * 64, dtype=torch.float32).reshape(16, 64, 64)
    values = observe(x).weighted(0.0).values
    for each in x:
        assert {each.min().item(), each.max().item()} <= set(values.tolist())
    assert len(set((values % 64).tolist())) == 64


def test_every_input_counts_alike_and_probes_as_much_as_they_are_likely() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(6, 40, generator=generator) * torch.logspace(-2, 1, 6)[:, None]
    probes = 5 * torch.rand(3, 40, generator=generator)
    found = observe(inputs, probes).weighted(0.2)
    scale = 0.03
    error = found.weights * (found.values.div(scale).round() * scale - found.values).abs() ** NORM

    def relative(rows: np.ndarray) -> np.ndarray:
        rounded = np.rint(rows / scale) * scale
        return (np.abs(rounded - rows) ** NORM).sum(1) / ((rows**NORM).sum(1) + floor)

    own, others = inputs.double().numpy(), probes.double().numpy()
    # torch's median of an even number is the lower one of the middle
    floor = 0.1 * np.sort((own**NORM).sum(1))[2]
    expected = 0.8 * relative(own).mean() + 0.2 * relative(others).mean()
    # float32 sums of 360 values
    assert error.sum().item() == pytest.approx(expected, rel=1e-3)


def closed_form(reach: np.ndarray, top: int, probability: float) -> np.ndarray:
    """The expected relative error of a range 0..`reach` with codes 0..`top`.

    Inputs are uniform in 0..1, probes in 0..r. Rounding by a step s has E|e|^p = (s/2)^p / (p + 1),
    which is the power of uniform values times (s/2)^p; what lies above the reach c of values up to
    r adds (1 - c/r)^(p+1) of their power.
    """

    def relative(r: float) -> np.ndarray:
        inside = np.minimum(reach / r, 1)
        step = reach / top / r
        return (1 - inside) ** (NORM + 1) + inside * (step / 2) ** NORM

    own, others = 1 / (1 + 0.1), 1 / (1 + 0.1 * REACH**-NORM)  # the median's tenth in each power
    return (1 - probability) * own * relative(1.0) + probability * others * relative(REACH)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("probability", [0.01, 0.05, 0.2])
def test_a_range_is_the_best_of_the_closed_form(bits: int, probability: float) -> None:
    ramp = (torch.arange(8191) + 0.5) / 8191
    found = observe(ramp[None], REACH * ramp[None]).weighted(probability)
    grid = UINT8.grid(bits, negative=False)
    scale = search_activation_scale(found, lambda _: grid)
    reaches = np.linspace(0.2, REACH, 4000)
    errors = closed_form(reaches, grid.hi, probability)
    chosen = closed_form(np.array([scale * grid.hi]), grid.hi, probability)[0]
    # steps are 1 % apart; errors are uniform where inputs meet many codes: 4 bits that reach to 8
    # leave them two, and with 6 bits they meet at least 8
    assert chosen <= (1.3 if bits < 6 else 1.05) * errors.min()


def test_many_codes_reach_as_far_as_the_probes_and_few_stay_with_the_inputs() -> None:
    ramp = (torch.arange(8191) + 0.5) / 8191
    found = observe(ramp[None], REACH * ramp[None]).weighted(0.05)
    reach = {}
    for bits in (2, 4, 8):
        grid = UINT8.grid(bits, negative=False)
        reach[bits] = grid.hi * search_activation_scale(found, lambda _, grid=grid: grid)
    assert reach[8] > 0.85 * REACH
    assert reach[2] < 1.25
    assert reach[2] <= reach[4] <= reach[8]
    alone = observe(ramp[None]).weighted(0.05)
    grid = UINT8.grid(8, negative=False)
    assert grid.hi * search_activation_scale(alone, lambda _: grid) < 1.05


def test_an_input_that_hardly_drives_a_tensor_does_not_narrow_its_range() -> None:
    ramp = (torch.arange(4096) + 0.5) / 4096
    loud = ramp.repeat(3, 1)
    grid = UINT8.grid(4, negative=False)
    alone = search_activation_scale(observe(loud).weighted(0.0), lambda _: grid)
    beside = torch.cat([loud, 1e-3 * ramp[None]])
    found = search_activation_scale(observe(beside).weighted(0.0), lambda _: grid)
    # neighbors on a grid of 1 %
    assert found == pytest.approx(alone, rel=0.02)


def test_probes_widen_the_ranges_of_a_student_that_they_exceed(
    tiny: tuple[Program, QuantizationPlan], images: torch.Tensor
) -> None:
    student = Student(*tiny)
    student.initialize([images])
    before = {q.spec.name: float(q.scale().detach()) for q in student.quantizers()}
    student.initialize([images], probes=[4 * images], probability=0.5)
    after = {q.spec.name: float(q.scale().detach()) for q in student.quantizers()}
    wider = [after[name] / before[name] for name in before]
    assert max(wider) > 1.5
    assert min(wider) > 0.95
    student.initialize([images], probes=[4 * images], probability=0.0)
    assert before == {q.spec.name: float(q.scale().detach()) for q in student.quantizers()}
