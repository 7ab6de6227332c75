"""Pixels become the tensor that a model reads, and come back: in numpy and torch alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfqonnx.core.input_format import PRESETS, Channels, InputFormat, Layout, Preprocessing
from dfqonnx.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
OWN = Preprocessing(
    name="own",
    scale=255.0,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    layout="NCHW",
    channels="BGR",
)
LAYOUTS: tuple[tuple[Layout, tuple[int, ...]], ...] = (("NCHW", (3, 4, 5)), ("NHWC", (4, 5, 3)))
numpy_and_torch = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])


def image_format(name: str, layout: Layout, channels: Channels = "RGB") -> InputFormat:
    shape = dict(LAYOUTS)[layout]
    return InputFormat(replace(PRESETS[name], layout=layout, channels=channels), shape)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@numpy_and_torch
def test_pixels_come_back_from_the_tensor(
    kind: Any, name: str, layout: Layout, channels: Channels
) -> None:
    inputs = image_format(name, layout, channels)
    tensor = inputs.to_tensor(kind(PIXELS))
    assert tensor.shape == (2, *inputs.shape)
    back = inputs.to_pixels(tensor)
    assert type(back) is type(kind(PIXELS))
    assert np.asarray(back).dtype == np.uint8
    np.testing.assert_array_equal(back, PIXELS)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_numpy_and_torch_give_the_same_bits(name: str, layout: Layout, channels: Channels) -> None:
    inputs = image_format(name, layout, channels)
    array, tensor = inputs.to_tensor(PIXELS), inputs.to_tensor(torch.from_numpy(PIXELS))
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(array, tensor.numpy())
    values = np.random.default_rng(1).normal(size=array.shape).astype(np.float32)
    pixels = inputs.to_pixels(values)
    np.testing.assert_array_equal(pixels, inputs.to_pixels(torch.from_numpy(values)).numpy())
    assert pixels.flags.c_contiguous


@numpy_and_torch
def test_the_tensor_follows_its_formula(kind: Any) -> None:
    tensor = np.asarray(InputFormat(OWN, (3, 4, 5)).to_tensor(kind(PIXELS)))
    for channel in range(3):  # BGR: mean and std are in the model's order, the pixels are RGB
        values = (PIXELS[..., 2 - channel] / 255.0 - OWN.mean[channel]) / OWN.std[channel]
        # float32: three operations of relative error 2^-24 on values below 4
        np.testing.assert_allclose(tensor[:, channel], values, rtol=0, atol=2e-6)


@numpy_and_torch
def test_raw_pixels_of_a_channels_last_model_stay_where_they_are(kind: Any) -> None:
    tensor = InputFormat(replace(PRESETS["raw"], layout="NHWC"), (4, 5, 3)).to_tensor(kind(PIXELS))
    np.testing.assert_array_equal(tensor, PIXELS.astype(np.float32))


def test_what_lies_outside_of_the_pixels_range_is_cut_off() -> None:
    inputs = InputFormat(PRESETS["zero-one"], (1, 1, 3))
    values = np.array([-0.2, 0.5, 1.2], np.float32).reshape(1, 1, 1, 3)
    assert inputs.to_pixels(values).ravel().tolist() == [0, 128, 255]


def test_limits_are_the_values_of_pixels_0_and_255() -> None:
    inputs = InputFormat(PRESETS["imagenet"], (3, 1, 1))
    ends = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, 3)
    # the same arithmetic, in float64 there and float32 here
    found = np.concatenate(inputs.pixel_limits(3))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, inputs.to_tensor(ends), rtol=1e-6, atol=1e-6)


@numpy_and_torch
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_one_mean_serves_every_number_of_channels(
    kind: Any, channels: int, order: Channels
) -> None:
    told = replace(PRESETS["zero-one"], channels=order)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 4, 5, channels), dtype=np.uint8)
    inputs = InputFormat(told, (channels, 4, 5))
    tensor = inputs.to_tensor(kind(pixels))
    assert tensor.shape == (2, channels, 4, 5)
    np.testing.assert_array_equal(inputs.to_pixels(tensor), pixels)


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((3, 32, 48), "NCHW", (32, 48, 3)),
        ((32, 48, 3), "NHWC", (32, 48, 3)),
        ((1, 28, 28), "NCHW", (28, 28, 1)),
        ((7,), "NCHW", (1, 7, 1)),
        ((900, 120), "NCHW", (900, 120, 1)),
        ((2, 3, 4, 5), "NHWC", (2, 60, 1)),
    ],
)
def test_the_size_of_the_pixels_follows_from_the_shape(
    shape: tuple[int, ...], layout: Layout, expected: tuple[int, int, int]
) -> None:
    inputs = InputFormat(replace(PRESETS["zero-one"], layout=layout), shape)
    assert inputs.image_size == expected
    assert inputs.is_image == (len(shape) == 3)


@numpy_and_torch
@pytest.mark.parametrize("shape", [(7,), (9, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR", "gray"])
def test_values_that_are_no_image_take_the_input_s_shape(
    kind: Any, shape: tuple[int, ...], layout: Layout, channels: Channels
) -> None:
    inputs = InputFormat(replace(PRESETS["raw"], layout=layout, channels=channels), shape)
    pixels: NDArray[np.uint8] = np.arange(2 * np.prod(shape), dtype=np.uint8)
    found = inputs.to_tensor(kind(pixels.reshape(2, *inputs.image_size)))
    np.testing.assert_array_equal(found, pixels.reshape(2, *shape).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [((3, 8, 6), "NHWC", "RGB"), ((3, 8, 6), "NCHW", "gray"), ((1, 28, 28), "NCHW", "RGB")],
)
def test_preprocessing_that_does_not_fit_the_shape_is_refused(
    shape: tuple[int, ...], layout: Layout, channels: Channels
) -> None:
    told = replace(OWN, layout=layout, channels=channels)
    with pytest.raises(UsageError, match=r"preprocess own: .*do not fit .* check layout"):
        InputFormat(told, shape)


@numpy_and_torch
def test_images_of_other_channels_than_means_are_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match="mean and std have 3 values, the images have 1 channels"):
        InputFormat(PRESETS["imagenet"], (3, 4, 5)).to_tensor(kind(PIXELS[..., :1]))


VALUES = Preprocessing(
    name="features",
    scale=255.0,
    mean=(0.0, 0.25, 0.5),
    std=(1.0, 0.5, 0.1),
    layout="NHWC",
    channels="values",
)


@numpy_and_torch
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 3), "NHWC"),
        ((1, 4, 3), "NHWC"),
        ((4, 3, 1), "NHWC"),
        ((3, 4), "NCHW"),
        ((1, 3, 4), "NCHW"),
        ((3,), "NHWC"),
    ],
)
def test_values_that_are_no_image_have_a_scale_for_every_feature(
    kind: Any, shape: tuple[int, ...], layout: Any
) -> None:
    inputs = InputFormat(replace(VALUES, layout=layout), shape)
    assert not inputs.is_image
    height, width, channels = inputs.image_size
    assert channels == 1
    pixels = np.random.default_rng(0).integers(0, 256, (5, height, width, 1), np.uint8)
    tensor = np.asarray(inputs.to_tensor(kind(pixels)))
    assert tensor.shape == (5, *shape)
    mean, std = np.array(VALUES.mean), np.array(VALUES.std)
    each = (mean[:, None], std[:, None]) if layout == "NCHW" else (mean, std)
    expected = (pixels[..., 0] / 255.0 - each[0]) / each[1]  # (N, H, W)
    # float32: three operations of relative error 2^-24 on values below 10
    np.testing.assert_allclose(tensor.reshape(5, height, width), expected, rtol=0, atol=4e-6)
    np.testing.assert_array_equal(inputs.to_pixels(tensor), pixels)
    low, high = inputs.pixel_limits(1)
    planes = tensor.reshape(5, 1, height, width)
    assert (planes >= low).all()
    assert (planes <= high).all()


def test_as_many_scales_as_features_or_one() -> None:
    with pytest.raises(UsageError, match=r"3 means .*4 features along the last axis"):
        InputFormat(VALUES, (3, 4))
    assert InputFormat(replace(VALUES, mean=(0.5,), std=(1.0,)), (3, 4)).signed
    square = InputFormat(replace(VALUES, layout="NCHW"), (3, 3))
    assert not square.feeds_as(InputFormat(VALUES, (3, 3)))
    assert square.feeds_as(square)


def test_values_are_described_by_their_ends() -> None:
    assert InputFormat(VALUES, (4, 3)).describe_values() == "values, -5 to 5 over 3 features"
