"""The input's scale away from ties: held against both ways to round, over all pixel values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.core.quantization import UINT8
from dfqonnx.core.quantization_plan import ActivationQuantizer
from dfqonnx.fakequant.input_ties import move_off_ties
from dfqonnx.fakequant.quantizer import FakeQuantizer


def quantizer(scale: float, **more: bool) -> FakeQuantizer:
    spec = ActivationQuantizer(name="x", tensor="x", grid=UINT8.grid(8), role="input", **more)
    made = FakeQuantizer(spec)
    made.set_scale(scale)
    return made


def pixels(scale: float) -> np.ndarray:
    """Return 256 values, a tenth of which lie within float32's error of a border of `scale`."""
    values = np.linspace(-2.0, 2.0, 256)
    values[::10] = (np.rint(values[::10] / scale) + 0.5) * scale
    return values.astype(np.float32)


@pytest.mark.parametrize("scale", [0.0157, 0.0163, 0.021])
def test_division_and_multiplication_give_equal_codes_afterwards(scale: float) -> None:
    values, one = pixels(scale), quantizer(scale)
    move_off_ties(one, torch.from_numpy(values))
    found = np.float32(one.scale().item())
    assert abs(found / scale - 1) <= 0.0021
    limits = one.grid().limits
    divided = np.rint(values / found).clip(*limits)
    multiplied = np.rint(values * (np.float32(1) / found)).clip(*limits)
    assert np.array_equal(divided, multiplied)
    inside = np.abs(values.astype(np.float64) / float(found)) < 127
    fraction = np.abs(values[inside].astype(np.float64) / float(found)) % 1
    assert np.abs(fraction - 0.5).min() > 1e-4


def test_a_scale_that_must_be_a_power_of_two_stays() -> None:
    one = quantizer(2.0**-6, power_of_two=True)
    move_off_ties(one, torch.from_numpy(pixels(2.0**-6)))
    assert one.scale().item() == 2.0**-6
