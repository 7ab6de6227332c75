"""Generators: counted by hand, right in shape, and valid pixels whatever the input."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import dfqonnx.synthesis.generators  # noqa: F401  (files them all)
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.generators.architecture import (
    GENERATORS,
    GeneratorShape,
    OutputToPixels,
    build,
)

CPU = torch.device("cpu")
SHAPE = GeneratorShape(height=32, width=32, channels=3, latent=100)


def made(architecture: str, shape: GeneratorShape, seed: int = 0) -> torch.nn.Module:
    return build(architecture, shape, generator=torch.Generator().manual_seed(seed))


def conv(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1) -> int:
    return outputs * (inputs // groups) * kernel**2 + outputs


def norm(channels: int) -> int:
    return 2 * channels


def g0(latent: int) -> int:
    """Linear to 128 x 8 x 8, then 128, 64 and 3 channels; the last BatchNorm has no parameters."""
    linear = latent * 128 * 64 + 128 * 64
    first = norm(128) + conv(128, 128) + norm(128)
    return linear + first + conv(128, 64) + norm(64) + conv(64, 3)


def attention(channels: int) -> int:
    """Two 1x1 around depthwise 5x5, depthwise 7x7 and a 1x1."""
    depthwise = conv(channels, channels, 5, groups=channels)
    far = conv(channels, channels, 7, groups=channels)
    return 3 * conv(channels, channels, 1) + depthwise + far


COUNTS = {
    ("gdfq", SHAPE): g0(100),
    ("gdfq", dataclasses.replace(SHAPE, classes=10)): g0(100) + 10 * 100,
    ("dfqf", dataclasses.replace(SHAPE, latent=1000)): g0(1000),
    ("akd", dataclasses.replace(SHAPE, latent=512)): (
        512 * 512 * 16 + 512 * 16
        + conv(512, 256) + norm(256) + conv(256, 128) + norm(128) + conv(128, 64) + norm(64)
        + conv(64, 3)
    ),
    ("lrq", SHAPE): g0(100) + attention(128) + attention(64),
}  # fmt: skip


@pytest.mark.parametrize(("key", "count"), COUNTS.items(), ids=lambda value: str(value)[:30])
def test_a_generator_has_as_many_parameters_as_its_paper_implies(
    key: tuple[str, GeneratorShape], count: int
) -> None:
    assert sum(p.numel() for p in made(*key).parameters()) == count


@pytest.mark.parametrize("architecture", sorted(set(GENERATORS) - {"dfqf"}))
@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (28, 28, 1), (18, 25, 3)])
def test_images_have_the_model_s_size_mean_0_and_deviation_1(
    architecture: str, height: int, width: int, channels: int
) -> None:
    shape = GeneratorShape(
        height=height, width=width, channels=channels, latent=16, width_multiplier=0.1
    )
    z = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    images = made(architecture, shape)(z, None)
    assert images.shape == (16, channels, height, width)
    # a BatchNorm's own eps of 1e-5 against variances near 1e-3 and more: within a percent
    assert images.mean((0, 2, 3)).abs().max().item() < 1e-4
    torch.testing.assert_close(
        images.std((0, 2, 3), correction=0), torch.ones(channels), rtol=0.02, atol=0
    )


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_value_is_that_of_a_valid_pixel(preset: str) -> None:
    inputs = InputFormat(PRESETS[preset], (3, 8, 8))
    images = OutputToPixels(inputs, 3)(3 * torch.randn(4, 3, 8, 8))
    low, high = map(torch.from_numpy, inputs.pixel_limits(3))
    # float32: one multiplication and one sum on values up to 255
    assert ((images >= low - 1e-4) & (images <= high + 1e-4)).all()
    # 3 deviations reach the ends
    assert float(images.amin()) == pytest.approx(float(low.amin()), abs=1e-4)
    assert float(images.amax()) == pytest.approx(float(high.amax()), abs=1e-4)


def test_the_clamp_stops_gradients_of_what_it_cuts_off() -> None:
    output = torch.tensor([-9.0, 0.0, 9.0]).view(1, 1, 1, 3).requires_grad_()
    inputs = InputFormat(PRESETS["zero-one"], (1, 1, 3))
    OutputToPixels(inputs, 1)(output).sum().backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert output.grad.flatten().tolist() == [0.0, 0.25, 0.0]


def test_a_generator_that_is_told_a_class_makes_other_images_for_another() -> None:
    network = made("gdfq", dataclasses.replace(SHAPE, classes=4, width_multiplier=0.1))
    z = torch.randn(8, 100)
    zero, one = torch.zeros(8, dtype=torch.long), torch.ones(8, dtype=torch.long)
    assert not torch.equal(network(z, zero), network(z, one))


def test_dfqf_begins_with_small_weights() -> None:
    """So small that the last BatchNorm's eps counts at first: its deviation is below 1."""
    network = made("dfqf", SHAPE)
    weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    spread = torch.cat([w.flatten() for w in weights]).std().item()
    assert spread == pytest.approx(0.02, rel=0.02)  # of 223,000 draws: 0.15 % by chance
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.affine]
    assert not any(bool(m.bias.detach().any()) for m in norms)


def test_many_classes_are_told_apart_by_normalization() -> None:
    shape = dataclasses.replace(SHAPE, classes=1000, width_multiplier=0.1)
    network = made("gdfq", shape)
    wide, narrow = shape.scaled(128), shape.scaled(64)
    per_class = sum(
        parameter.numel() for parameter in network.parameters() if parameter.shape[0] == 1000
    )
    assert per_class == 1000 * 2 * (wide + wide + narrow)  # a scale and a bias for each channel
    z, zero = torch.randn(8, 100), torch.zeros(8, dtype=torch.long)
    same = network(z, zero), network(z, zero + 1)
    torch.testing.assert_close(same[0], same[1])  # all classes begin alike
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.shape[0] == 1000:
                parameter[1] += 0.5
    assert not torch.allclose(network(z, zero), network(z, zero + 1))
    torch.testing.assert_close(network(z, zero), same[0])


def test_the_seed_decides_and_global_randomness_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(1)
    torch.manual_seed(5)
    first, again, other = made("gdfq", SHAPE), made("gdfq", SHAPE), made("gdfq", SHAPE, seed=1)
    assert torch.equal(torch.randn(1), expected)
    assert torch.equal(first.linear.weight, again.linear.weight)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(first.linear.weight, other.linear.weight)  # type: ignore[union-attr,arg-type]


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(UsageError, match=r"gdqf.*did you mean 'gdfq'"):
        made("gdqf", SHAPE)
