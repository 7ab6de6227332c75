from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import dfqonnx.synthesis.losses  # noqa: F401  (registers them all)
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, gaussian_distance, moments
from dfqonnx.synthesis.losses.labels import soft_labels
from dfqonnx.synthesis.losses.objective import IMAGE_LOSSES, ImageLossInputs
from tests.synthesis.tiny import statistics_kl

CPU = torch.device("cpu")


def known(mean: list[float], variance: list[float]) -> ChannelStatistics:
    return ChannelStatistics(np.float32(mean), np.float32(variance))


def test_the_distance_is_the_gaussian_divergence() -> None:
    mean, variance = torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0])
    other, wide = torch.tensor([0.0, 1.0]), torch.tensor([1.5, 0.7])
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(other, wide.sqrt()))
    # torch's own closed form, float32
    torch.testing.assert_close(gaussian_distance(mean, variance, other, wide), expected)


def test_a_perfect_match_costs_nothing() -> None:
    values = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, variance = moments(values)
    targets = BatchNormTargets({"v": known(mean.tolist(), variance.tolist())}, CPU)
    # float32: the divergence of equal numbers is a difference of values near 1
    assert statistics_kl(targets, {"v": values}) == pytest.approx(0.0, abs=1e-6)


def test_moments_are_taken_over_all_axes_but_channels() -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    mean, variance = moments(values)
    expected = values.permute(1, 0, 2).reshape(3, -1)
    torch.testing.assert_close(mean, expected.mean(1))
    torch.testing.assert_close(variance, expected.var(1, correction=0))


def test_the_gradient_of_the_moments_is_right() -> None:
    values = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # numerical differences in float64: gradcheck's own tolerance
    assert torch.autograd.gradcheck(moments, (values.requires_grad_(True),))


def test_rescaling_a_channel_does_not_change_its_distance() -> None:
    mean, variance, aim, wide = torch.tensor([[0.2], [0.9], [0.5], [2.0]])
    scaled = gaussian_distance(10 * mean, 100 * variance, 10 * aim, 100 * wide)
    torch.testing.assert_close(scaled, gaussian_distance(mean, variance, aim, wide))


def test_only_what_is_known_is_compared() -> None:
    targets = BatchNormTargets({"a": known([0.0], [1.0]), "b": known([5.0], [1.0])}, CPU)
    taps = {"a": torch.tensor([[1.0], [-1.0]])}
    assert statistics_kl(targets, taps) == 0.0  # mean 0, variance 1, exactly


def test_a_dead_channel_does_not_drown_the_others() -> None:
    targets = BatchNormTargets({"a": known([0.0, 0.0, 0.0], [0.0, 1.0, 1.0])}, CPU)
    assert targets.variance["a"].tolist() == pytest.approx([1e-3, 1.0, 1.0])


def test_statistics_that_are_not_finite_are_left_out() -> None:
    assert (
        len(BatchNormTargets({"a": known([math.nan], [1.0]), "b": known([0.0], [1.0])}, CPU)) == 1
    )


def test_labels_are_distributions_balanced_over_classes() -> None:
    labels = soft_labels(40, 4, two_class_fraction=0.0, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(labels.sum(1), torch.ones(40))
    assert torch.bincount(labels.argmax(1)).tolist() == [10, 10, 10, 10]
    assert labels.max().item() == pytest.approx(0.95 + 0.05 / 4)


def test_boundary_labels_name_two_classes() -> None:
    labels = soft_labels(64, 5, two_class_fraction=1.0, generator=torch.Generator().manual_seed(0))
    assert ((labels > 0.1).sum(1) == 2).all()  # shares from 0.3 to 0.7, the rest 0.01 each


def loss(name: str, **parts: Tensor) -> float:
    known = {"images": torch.zeros(1), "logits": torch.zeros(1), **parts}
    inputs = ImageLossInputs(taps={}, targets=BatchNormTargets({}, CPU), **known)  # type: ignore[arg-type]
    return IMAGE_LOSSES[name].make()(inputs).item()


def test_the_class_loss_of_the_labels_themselves_is_nought() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = soft_labels(16, 4, two_class_fraction=0.5, generator=generator)
    assert loss("labels", logits=labels.log(), soft=labels) == pytest.approx(0.0, abs=1e-6)
    hard = torch.tensor([[1.0, 0.0]])
    assert loss("labels", logits=torch.zeros(1, 2), soft=hard) == pytest.approx(math.log(2))


def test_total_variation_counts_steps_between_neighbors() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    assert loss("smooth", images=ramp) == 1.0
    assert loss("smooth", images=ramp.transpose(2, 3)) == 1.0
    assert loss("smooth", images=torch.ones(1, 3, 1, 1)) == 0.0
