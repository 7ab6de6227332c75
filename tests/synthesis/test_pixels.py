from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dfqonnx.synthesis.pixels import limits, to_pixels, to_tensor

from dfqonnx.core.input_format import PRESETS, Preprocessing, image_size
from dfqonnx.errors import UsageError

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (2, 4, 5, 3), generator=GENERATOR).to(torch.uint8)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pixels_come_back_from_the_tensor(name: str, layout: str, channels: str) -> None:
    spec = replace(PRESETS[name], layout=layout, channels=channels)
    assert torch.equal(to_pixels(to_tensor(PIXELS, spec), spec), PIXELS)


def test_the_tensor_follows_its_formula() -> None:
    spec = Preprocessing("own", 255.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "NCHW", "BGR")
    tensor = to_tensor(PIXELS, spec)
    blue = PIXELS[1, 2, 3, 2].item()  # BGR: the model's first channel is the pixels' last
    # float32: three operations of relative error 2^-24 on values below 4
    assert tensor[1, 0, 2, 3].item() == pytest.approx((blue / 255 - 0.5) / 0.2, abs=2e-6)


def test_limits_are_the_values_of_pixels_0_and_255() -> None:
    spec = PRESETS["imagenet"]
    low, high = limits(spec, 3, torch.device("cpu"))
    ends = to_tensor(
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 3), spec
    )
    # the same arithmetic, in float64 there and float32 here
    torch.testing.assert_close(torch.cat([low, high]), ends, rtol=1e-6, atol=1e-6)


def test_one_mean_serves_gray_and_color() -> None:
    for channels in (1, 3):
        assert to_tensor(PIXELS[..., :channels], PRESETS["zero-one"]).shape == (2, channels, 4, 5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 32, 48), (32, 48, 3)), ((1, 28, 28), (28, 28, 1)), ((900, 120), (900, 120, 1))],
)
def test_the_size_of_the_pixels_follows_from_the_shape(
    shape: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    assert image_size(shape, PRESETS["zero-one"]) == expected


def test_values_that_are_no_image_take_the_input_s_shape() -> None:
    pixels = torch.zeros(2, 9, 4, 1, dtype=torch.uint8)
    assert to_tensor(pixels, PRESETS["raw"], shape=(9, 4)).shape == (2, 9, 4)


def test_three_means_for_one_channel_are_refused() -> None:
    with pytest.raises(UsageError, match="imagenet"):
        image_size((1, 28, 28), PRESETS["imagenet"])
    with pytest.raises(UsageError, match="mean and std have 3 values"):
        to_tensor(PIXELS[..., :1], PRESETS["imagenet"])
