"""Losses of image optimization, against closed forms in NumPy and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import rel_entr

import dfqonnx.synthesis.losses  # noqa: F401  (files them all)
from dfqonnx.config.loss_terms import IMAGE_LOSSES as KNOWN
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.bn_statistics import BatchNormTargets
from dfqonnx.synthesis.losses.objective import IMAGE_LOSSES, ImageLossInputs

B, C, K = 6, 4, 5


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(**more: object) -> ImageLossInputs:
    statistics = {
        name: ChannelStatistics(
            numbers(C, seed=seed).numpy(), numbers(C, seed=seed + 1).square().add(0.1).numpy()
        )
        for name, seed in (("one", 10), ("two", 20))
    }
    parts: dict[str, object] = {
        "images": numbers(B, 3, 8, 9),
        "logits": numbers(B, K, seed=1),
        "taps": {"one": 2 * numbers(B, C, 5, 5, seed=2), "two": numbers(B, C, 3, 3, seed=3) + 1},
        "targets": BatchNormTargets(statistics, torch.device("cpu")),
        "labels": torch.tensor([0, 1, 2, 3, 4, 0]),
    }
    return ImageLossInputs(**(parts | more))  # type: ignore[arg-type]


def value(name: str, given: ImageLossInputs, **settings: float) -> float:
    return float(IMAGE_LOSSES[name].make()(given, **settings))


def test_batchnorm_norm_is_the_sum_of_two_euclidean_distances_per_layer() -> None:
    given = seen()
    wanted = 0.0
    for name, tap in given.taps.items():
        mean, variance = tap.numpy().mean((0, 2, 3)), tap.numpy().var((0, 2, 3))
        known = given.targets.mean[name].numpy(), given.targets.variance[name].numpy()
        wanted += np.linalg.norm(mean - known[0]) + np.linalg.norm(variance - known[1])
    assert value("batchnorm-norm", given) == pytest.approx(wanted, rel=1e-5)  # float32


def test_batchnorm_sample_takes_every_image_by_itself_and_the_input_as_a_layer() -> None:
    given = seen()
    pixels = given.images.numpy()
    wanted = np.sum(pixels.mean((2, 3)) ** 2) + np.sum((pixels.std((2, 3), ddof=1) - 1) ** 2)
    for name, tap in given.taps.items():
        mean, deviation = tap.numpy().mean((2, 3)), tap.numpy().std((2, 3), ddof=1)
        known = given.targets.mean[name].numpy(), given.targets.variance[name].numpy() ** 0.5
        wanted += np.sum((mean - known[0]) ** 2) + np.sum((deviation - known[1]) ** 2)
    # 1e-6 under the roots moves a deviation of 0.3 by 2e-6
    assert value("batchnorm-sample", given) == pytest.approx(wanted / B, rel=1e-4)


def test_a_batch_that_matches_as_a_whole_may_still_be_far_image_by_image() -> None:
    flat = torch.tensor([-1.0, 1.0]).repeat(3).view(B, 1, 1, 1).expand(B, C, 5, 5)
    known = {"one": ChannelStatistics(np.zeros(C, "f4"), np.ones(C, "f4"))}
    given = seen(taps={"one": flat}, targets=BatchNormTargets(known, torch.device("cpu")))
    assert value("batchnorm-norm", given) == pytest.approx(0.0, abs=1e-6)
    inputs = value("batchnorm-sample", seen(taps={}))
    # every image is off by 1 in mean and by 1 in deviation (1e-3 less: the root's 1e-6), 4 channels
    assert value("batchnorm-sample", given) - inputs == pytest.approx(8.0, rel=2e-3)


def test_focal_is_cross_entropy_that_easy_images_hardly_enter() -> None:
    given = seen()
    assert given.labels is not None
    p = given.logits.softmax(1)[torch.arange(B), given.labels].numpy().astype(float)
    for gamma in (0.0, 0.5, 2.0):
        wanted = float(np.mean((1 - p) ** gamma * -np.log(p)))
        assert value("focal", given, gamma=gamma) == pytest.approx(wanted, rel=1e-5)  # float32
    assert value("focal", given, gamma=0.0) == pytest.approx(value("class", given), rel=1e-6)


def test_competition_is_one_minus_the_divergence_of_the_mean_at_a_temperature() -> None:
    student = 3 * numbers(B, K, seed=7)
    given = seen(logits=3 * numbers(B, K, seed=1), students=(student,))
    teacher, other = (
        t.div(3).softmax(1).clamp(0.01, 0.99).numpy() for t in (given.logits, student)
    )
    assert min(teacher.min(), other.min()) > 0.01  # nothing clamps
    middle = (teacher + other) / 2
    halves = rel_entr(middle, teacher).sum(1) + rel_entr(middle, other).sum(1)
    assert value("competition", given) == pytest.approx(1 - halves.mean() / 2, rel=1e-5)
    same = seen(students=(seen().logits, seen().logits))
    assert value("competition", same) == pytest.approx(1.0, abs=1e-6)
    apart = seen(
        logits=torch.tensor([[50.0, 0.0]]), students=(torch.tensor([[0.0, 50.0]]),), labels=None
    )
    # the mean is (0.5, 0.5), against (0.99, 0.01) on both sides
    wanted = 1 + 0.5 * math.log(4 * 0.99 * 0.01)
    assert value("competition", apart) == pytest.approx(max(0.0, wanted), abs=1e-5)


def test_blur_is_the_distance_from_a_gaussian_filter_of_five_places() -> None:
    given = seen()
    blurred = ndimage.gaussian_filter(
        given.images.numpy().astype(float), 1.0, axes=(2, 3), mode="nearest", radius=2
    )
    wanted = np.mean((given.images.numpy() - blurred) ** 2)
    assert value("blur", given) == pytest.approx(wanted, rel=1e-5)  # float32
    assert value("blur", seen(images=torch.ones(2, 3, 4, 4))) < 1e-12


def test_smooth_norm_adds_four_norms_of_differences() -> None:
    given = seen()
    x = given.images.numpy()
    pairs = [
        (x[..., 1:], x[..., :-1]), (x[:, :, 1:], x[:, :, :-1]),
        (x[:, :, 1:, :-1], x[:, :, :-1, 1:]), (x[:, :, 1:, 1:], x[:, :, :-1, :-1]),
    ]  # fmt: skip
    wanted = sum(np.linalg.norm((a - b).ravel()) for a, b in pairs)
    assert value("smooth-norm", given) == pytest.approx(wanted, rel=1e-5)  # float32
    flat = torch.ones(2, 3, 4, 4, requires_grad=True)
    IMAGE_LOSSES["smooth-norm"].make()(seen(images=flat)).backward()
    assert flat.grad is not None
    assert bool(torch.isfinite(flat.grad).all())  # a norm has no gradient at 0; this one has


@pytest.mark.parametrize("name", ["batchnorm-norm", "batchnorm-sample", "blur", "smooth-norm"])
def test_gradients_to_the_images_are_those_of_finite_differences(name: str) -> None:
    weight = numbers(C, 3, 3, 3, seed=5).double()
    known = {"one": ChannelStatistics(np.zeros(C, "f4"), np.ones(C, "f4"))}
    targets = BatchNormTargets(known, torch.device("cpu"))

    def loss(images: torch.Tensor) -> torch.Tensor:
        tap = torch.nn.functional.conv2d(images, weight)
        made: torch.Tensor = IMAGE_LOSSES[name].make()(
            seen(images=images, taps={"one": tap}, targets=targets)
        )
        return made

    images = numbers(2, 3, 5, 5, seed=8).double().requires_grad_(True)
    assert torch.autograd.gradcheck(loss, (images,))  # double precision, its own tolerances


def test_what_recipes_know_and_what_is_filed_are_the_same() -> None:
    assert set(KNOWN) == set(IMAGE_LOSSES)
