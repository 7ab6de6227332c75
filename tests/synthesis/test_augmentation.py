"""Copies, crops and holes: against what they keep, and gradients back to the images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dfqonnx.config.synthesis import (
    GeneratorConfig,
    PixelOptimizationConfig,
    SynthesisConfig,
)
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.augmentation import (
    augmented_copies,
    crop_and_resize,
    crop_half_the_time,
    cut_out,
)
from dfqonnx.synthesis.losses.margin import Margin
from dfqonnx.synthesis.losses.objective import Objective
from dfqonnx.synthesis.synthesize import FROM_TEACHER, synthesize
from tests.synthesis.tiny import program, tiny


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_of_the_whole_image_is_the_image_and_mirrors_it() -> None:
    images = torch.randn(4, 3, 8, 6, generator=seeded())
    whole = torch.ones(4, 2)
    torch.testing.assert_close(crop_and_resize(images, whole, seeded()), images)
    mirrored = torch.tensor([True, False, True, False])
    found = crop_and_resize(images, whole, seeded(), mirrored=mirrored)
    torch.testing.assert_close(found[::2], images[::2].flip(3))
    torch.testing.assert_close(found[1::2], images[1::2])


def test_a_crop_of_a_slope_is_a_part_of_it_at_its_share_of_the_slope() -> None:
    slope = torch.linspace(-1, 1, 32).expand(50, 1, 32, 32)
    found = crop_and_resize(slope, torch.tensor([[0.5, 0.5]]).expand(50, 2), seeded())
    steps = found[:, 0, 16, 2:-2].diff(dim=1)  # bilinear at twice the size: half the slope
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 31), atol=1e-5, rtol=1e-4)
    assert float(found.min()) >= -1
    assert float(found.max()) <= 1
    middles = found.mean((1, 2, 3))
    assert float(middles.min()) < -0.3  # boxes lie anywhere: middles within -0.5 .. 0.5
    assert float(middles.max()) > 0.3


def test_holes_are_0_and_the_rest_stays() -> None:
    images = torch.ones(200, 2, 12, 12)
    found = cut_out(images, seeded())
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found[:, 0], found[:, 1])
    cut = 1 - found[:, 0].mean((1, 2))
    assert float(cut.max()) < 4 / 9
    assert int((cut == 0).sum()) > 20  # a fifth has no hole


def test_copies_come_one_after_another_and_hand_gradients_back() -> None:
    images = torch.randn(3, 3, 16, 16, generator=seeded()).requires_grad_()
    copies = augmented_copies(images, 4, seeded(1))
    assert copies.shape == (12, 3, 16, 16)
    copies.sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


def test_half_of_the_batches_are_cropped() -> None:
    images = torch.randn(2, 3, 16, 16, generator=seeded())
    generator = seeded()
    same = [torch.equal(crop_half_the_time(images, 0.8, generator), images) for _ in range(200)]
    assert 70 < sum(same) < 130  # 100 +- 4 deviations of 7


def test_copies_and_crops_go_through_synthesis(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    inputs = InputFormat(PRESETS["cifar10"], model.input_shape)
    pixels = PixelOptimizationConfig(first_batch_steps=2, batch_steps=2, copies=3)
    losses = {"batchnorm-kl": {"weight": 1.0, "input": 1}, "logit": 1.0, "blur": 0.1}
    spec = SynthesisConfig(
        source="optimized", images=8, dead_leaves_fraction=0.0, pixels=pixels,
        losses=losses,  # type: ignore[arg-type]
    )  # fmt: skip
    made = synthesize(
        program(model), model.statistics, inputs=inputs, config=spec, context=RunContext()
    )
    assert made.pixels.shape == (8, 16, 16, 3)
    generator = GeneratorConfig(
        iterations=2, batch_size=16, latent=4, width_multiplier=0.1, crop=0.8
    )
    spec = dataclasses.replace(
        spec, source="generator", images=40, painted_fraction=0.25, generator=generator
    )
    made = synthesize(
        program(model), model.statistics, inputs=inputs, config=spec, context=RunContext()
    )
    assert made.pixels.shape == (40, 16, 16, 3)
    assert int((made.kinds == FROM_TEACHER).sum()) == 30
    assert made.reason == "30 from a gdfq generator, 2 steps, 10 procedural"


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(UsageError, match="dead_leaves_fraction instead"):
        SynthesisConfig(source="optimized", painted_fraction=0.5)
    with pytest.raises(UsageError, match="painted_fraction 1: must be below 1"):
        SynthesisConfig(source="generator", painted_fraction=1.0)
    with pytest.raises(UsageError, match=r"crop 0: must be above 0"):
        GeneratorConfig(crop=0)
    with pytest.raises(UsageError, match="copies 0"):
        PixelOptimizationConfig(copies=0)


def test_presets_say_whether_they_standardize() -> None:
    found = {name for name, preset in PRESETS.items() if preset.standardizes}
    assert {"cifar10", "imagenet"} <= found
    assert not {"zero-one", "minus-one-one", "raw"} & found


def test_what_a_loss_remembers_goes_back() -> None:
    first = Margin()
    first.center, first.usual = torch.ones(2, 3), torch.zeros(2)
    first.known = torch.ones(2, dtype=torch.bool)
    other = Margin()
    other.load_state(first.save_state())
    assert other.center is not None
    assert torch.equal(other.center, first.center)
    spec = SynthesisConfig(losses={"margin": 1.0, "cluster": 1.0})  # type: ignore[arg-type]
    state = Objective(spec.losses).save_state()
    assert state == {"cluster.batches": torch.tensor(0)}
    state = {"margin.center": torch.ones(2, 3), "cluster.batches": torch.tensor(7)}
    again = Objective(spec.losses)
    again.load_state(state | {"cluster.mean./layer1/conv": torch.zeros(2, 3)})
    assert int(again.save_state()["cluster.batches"]) == 7
    assert set(again.save_state()) == {
        "margin.center", "cluster.batches", "cluster.mean./layer1/conv"
    }  # fmt: skip
