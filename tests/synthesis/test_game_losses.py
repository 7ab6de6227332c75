"""The losses of generators, against closed forms in NumPy and SciPy and torch.distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import entropy
from torch.distributions import Normal, kl_divergence

import dfqonnx.synthesis.losses  # noqa: F401  (files them all)
from dfqonnx.config.loss_terms import IMAGE_LOSSES as KNOWN
from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.bn_statistics import BatchNormTargets
from dfqonnx.synthesis.losses.cluster import Cluster, class_moments, deep_layers
from dfqonnx.synthesis.losses.margin import Margin
from dfqonnx.synthesis.losses.objective import IMAGE_LOSSES, ImageLossInputs, Objective

B, C, K = 8, 3, 4


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def targets() -> BatchNormTargets:
    known = {
        name: ChannelStatistics(
            numbers(C, seed=seed).numpy(), numbers(C, seed=seed + 1).square().add(0.2).numpy()
        )
        for name, seed in (("one", 10), ("two", 20), ("three", 30))
    }
    return BatchNormTargets(known, torch.device("cpu"))


def seen(**more: object) -> ImageLossInputs:
    parts: dict[str, object] = {
        "images": numbers(B, 3, 8, 8),
        "logits": 2 * numbers(B, K, seed=1),
        "taps": {
            "one": 2 * numbers(B, C, 5, 5, seed=2),
            "two": numbers(B, C, 3, 3, seed=3) + 1,
            "three": numbers(B, C, 2, 2, seed=4) - 1,
        },
        "targets": targets(),
        "labels": torch.arange(B) % K,
        "generator": torch.Generator().manual_seed(0),
    }
    return ImageLossInputs(**(parts | more))  # type: ignore[arg-type]


def value(name: str, given: ImageLossInputs, **settings: float) -> float:
    return float(IMAGE_LOSSES[name].make()(given, **settings))


def both(given: ImageLossInputs, name: str) -> tuple[Normal, Normal]:
    """A layer's channels as Gaussians: of the batch, of the training data."""
    tap, known = given.taps[name], given.targets
    mean, spread = tap.mean((0, 2, 3)), tap.std((0, 2, 3), correction=0)
    return Normal(mean, spread), Normal(known.mean[name], known.variance[name].sqrt())


def test_recipes_and_functions_know_the_same_losses_and_settings() -> None:
    assert set(KNOWN) == set(IMAGE_LOSSES)
    for name, known in KNOWN.items():
        given = seen(
            soft=numbers(B, K).softmax(1),
            features=numbers(B, 6),
            students=(numbers(B, K),),
        )
        assert np.isfinite(value(name, given, **known.settings)), name


def test_kl_forms_are_sums_of_gaussian_divergences() -> None:
    given = seen()
    pairs = [both(given, name) for name in given.taps]
    forward = sum(float(kl_divergence(batch, data).sum()) for batch, data in pairs)
    # float32 on sums of a few dozen
    assert value("batchnorm-kl-sum", given) == pytest.approx(forward, rel=1e-4)
    assert value("batchnorm-kl", given) == pytest.approx(forward / (3 * C), rel=1e-4)


def test_the_input_is_one_more_layer_where_a_recipe_asks_and_pixels_are_normalized() -> None:
    shown = 2 * numbers(B, C, 6, 6, seed=9) + 1
    given = seen(shown=shown)
    batch = Normal(shown.mean((0, 2, 3)), shown.std((0, 2, 3), correction=0))
    unit = Normal(torch.zeros(C), torch.ones(C))
    input_kl = float(kl_divergence(batch, unit).mean())
    plain = value("batchnorm-kl", given)
    assert value("batchnorm-kl", given, input=1.0) == pytest.approx((3 * plain + input_kl) / 4)
    assert value("batchnorm-kl", seen(normalized=False), input=1.0) == pytest.approx(plain)


def test_squared_errors_are_those_that_batchnorm_reads() -> None:
    """A value that BatchNormalization put out counts as what it read: (y - b) / gain."""
    gain = torch.tensor([0.5, -2.0, 4.0])
    read = {"one": 2 * numbers(B, C, 5, 5, seed=2)}
    known = numbers(C, seed=10), numbers(C, seed=11).square().add(0.2)
    at_input = {"one": ChannelStatistics(known[0].numpy(), known[1].numpy())}
    put_out = {"one": ChannelStatistics(
        (gain * known[0] + 1).numpy(), (gain**2 * known[1]).numpy(), gain.numpy()
    )}  # fmt: skip
    behind = {"one": gain.view(1, C, 1, 1) * read["one"] + 1}
    for name in ("batchnorm-mse", "batchnorm-norm", "batchnorm-pseudo-kl", "batchnorm-sample"):
        found = [
            value(name, seen(taps=taps, targets=BatchNormTargets(stats, torch.device("cpu"))))
            for taps, stats in ((read, at_input), (behind, put_out))
        ]
        assert found[0] == pytest.approx(found[1], rel=1e-4), name  # float32


def test_mse_is_the_mean_over_layers() -> None:
    given = seen()
    found = []
    for name, tap in given.taps.items():
        mean, variance = tap.numpy().mean((0, 2, 3)), tap.numpy().var((0, 2, 3))
        known = given.targets.mean[name].numpy(), given.targets.variance[name].numpy()
        found.append(np.mean((mean - known[0]) ** 2) + np.mean((variance - known[1]) ** 2))
    assert value("batchnorm-mse", given) == pytest.approx(np.mean(found), rel=1e-4)


def test_the_pseudo_divergence_is_its_formula_and_least_at_a_match() -> None:
    given, wanted, least = seen(), 0.0, 0.0
    for name, tap in given.taps.items():
        mean, unbiased = tap.numpy().mean((0, 2, 3)), tap.numpy().var((0, 2, 3), ddof=1)
        known = given.targets.mean[name].numpy(), given.targets.variance[name].numpy()
        wanted += np.mean(unbiased - known[1] * np.log(unbiased) + (mean - known[0]) ** 2)
        least += np.mean(known[1] - known[1] * np.log(known[1]))
    assert value("batchnorm-pseudo-kl", given) == pytest.approx(wanted, rel=1e-4)
    assert wanted > least


def test_confidence_and_balance_are_entropies_whose_sum_is_the_inception_score() -> None:
    given = seen()
    p = softmax(given.logits.double().numpy(), axis=1)
    confidence, balance = value("confidence", given), value("balance", given)
    assert confidence == pytest.approx(np.mean(entropy(p, axis=1)), rel=1e-5)
    assert balance == pytest.approx(-entropy(p.mean(0)), rel=1e-5)
    score = np.exp(np.mean(rel_entr(p, p.mean(0)).sum(1)))  # Salimans et al. 2016
    assert confidence + balance == pytest.approx(-np.log(score), rel=1e-4)


def test_confident_balanced_answers_cost_least() -> None:
    given = seen(logits=50 * torch.eye(K).repeat(2, 1))
    assert value("confidence", given) == pytest.approx(0.0, abs=1e-6)
    assert value("balance", given) == pytest.approx(-np.log(K), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_adversarial_is_minus_the_mean_divergence_over_students(temperature: float) -> None:
    students = (numbers(B, K, seed=5), numbers(B, K, seed=6))
    given = seen(students=students)
    p = softmax(given.logits.double().numpy() / temperature, axis=1)
    each = [
        np.mean(rel_entr(p, softmax(s.double().numpy() / temperature, axis=1)).sum(1))
        for s in students
    ]
    found = value("adversarial", given, temperature=temperature)
    assert found == pytest.approx(-np.mean(each), rel=1e-5)


def test_class_is_cross_entropy() -> None:
    given = seen()
    p = softmax(given.logits.double().numpy(), axis=1)
    wanted = -np.log(p[np.arange(B), np.arange(B) % K]).mean()
    assert value("class", given) == pytest.approx(wanted, rel=1e-5)


def fan(*angles: float) -> torch.Tensor:
    """Features of any length in a plane, at these angles to the first axis."""
    turns = torch.tensor(angles)
    return 5 * torch.stack([turns.cos(), turns.sin()], 1)


def test_margin_is_a_hinge_beyond_the_usual_angle_to_the_class_s_center() -> None:
    margin, labels = Margin(), torch.zeros(4, dtype=torch.long)
    # the center of the first batch is the first axis, the usual angle (0.1 + 0.1 + 0.3 + 0.3) / 4
    first = seen(features=fan(0.1, -0.1, 0.3, -0.3), labels=labels)
    wanted = np.mean([0.2 + 0.25 - 0.1, 0.2 + 0.25 - 0.3])
    # arccos in float32 near 1 is good to about 1e-5
    assert float(margin(first, angle=0.25)) == pytest.approx(wanted, abs=1e-5)
    wide = seen(features=fan(0.5, -0.5, 0.1, -0.1), labels=labels)
    assert float(margin(wide, angle=0.25, rate=0.5)) == pytest.approx(0.35 / 2, abs=1e-5)
    assert margin.usual is not None
    assert float(margin.usual[0]) == pytest.approx(0.5 * 0.2 + 0.5 * 0.3, abs=1e-5)


def test_a_margin_acts_however_wide_the_angles_are_and_turns_features_away() -> None:
    for scale in (0.01, 0.1, 1.0):
        features = (fan(scale, -scale, 2 * scale, -2 * scale)).requires_grad_()
        given = seen(features=features, labels=torch.zeros(4, dtype=torch.long))
        loss = Margin()(given)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) > 0
        assert features.grad is not None
        assert torch.isfinite(features.grad).all()
        assert features.grad[0, 1] < 0  # a step against it turns the feature further away
        assert features.grad[1, 1] > 0


def test_a_feature_on_its_center_gives_a_finite_gradient() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    given = seen(features=features, labels=torch.tensor([0, 0]))
    Margin()(given).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_logit_is_an_exponential_that_goes_on_pushing() -> None:
    given = seen(logits=50 * torch.eye(K).repeat(2, 1))
    assert value("logit", given, scale=0.01) == pytest.approx(np.exp(-0.5))
    assert value("class", given) < 1e-6


def test_class_moments_are_those_of_each_class_alone() -> None:
    tap, labels = numbers(B, C, 3, 3), torch.arange(B) % K
    chosen = torch.nn.functional.one_hot(labels, K).float()
    mean, variance = class_moments(tap, chosen)
    for c in range(K):
        own = tap[labels == c].numpy()
        np.testing.assert_allclose(mean[c], own.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance[c], own.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_deep_layers_are_those_of_the_authors_code() -> None:
    names = [str(k) for k in range(21)]
    assert deep_layers(names) == names[9:]  # the last 12 of 21
    assert deep_layers(names[:1]) == names[:1]


def test_cluster_pulls_to_centroids_of_deep_layers_and_skips_mistakes() -> None:
    logits = 9 * torch.nn.functional.one_hot(torch.arange(B) % K, K).float()
    logits[0] = logits[0].roll(1)  # image 0, of class 0, is taken for class 1
    cluster = Cluster()
    first = seen(logits=logits)
    settings = {"rate": 0.25, "noise": 0.0, "period": 3.0, "after": 0.0}
    assert float(cluster(first, **settings)) == 0.0  # centroids begin here
    assert set(cluster.mean) == {"one", "two", "three"}  # from layer (3 + 1) // 2 - 2 on
    taps = {name: 2 * tap + 1 for name, tap in first.taps.items()}
    wanted, moved = 0.0, {}
    for name in taps:
        for c in (1, 2, 3):  # class 0 has one image left: no variance
            old, new = first.taps[name][c::K].numpy(), taps[name][c::K].numpy()
            mean, spread = old.mean((0, 2, 3)), old.var((0, 2, 3))
            wanted += np.mean((new.mean((0, 2, 3)) - mean) ** 2) / 9
            wanted += np.mean((new.var((0, 2, 3)) - spread) ** 2) / 9
            moved[name, c] = 0.75 * mean + 0.25 * new.mean((0, 2, 3))
    for _ in range(2):  # the target stands still until the third batch is over
        loss = float(cluster(seen(logits=logits, taps=taps), **settings))
        assert loss == pytest.approx(wanted, rel=1e-4)
    for (name, c), mean in moved.items():
        np.testing.assert_allclose(cluster.mean[name][c], mean, rtol=1e-4, atol=1e-5)
    assert not cluster.known["two"][0]


def test_cluster_waits_and_its_noise_moves_the_target_with_the_centroids() -> None:
    logits = 9 * torch.nn.functional.one_hot(torch.arange(B) % K, K).float()
    waiting, shaken = Cluster(), Cluster()
    assert float(waiting(seen(logits=logits), after=1.0)) == 0.0
    assert not waiting.mean
    # the same batch again and again: nothing but noise, which is drawn after the second
    losses = [float(shaken(seen(logits=logits), noise=0.5, period=2.0)) for _ in range(4)]
    assert losses[:2] == [0.0, 0.0]
    assert losses[2] == losses[3] > 0


def test_a_sum_leaves_out_what_it_cannot_know_and_what_weighs_nothing() -> None:
    terms = (LossTerm("class", 2.0), LossTerm("adversarial", 5.0), LossTerm("confidence", 0.0))
    given = seen()
    total, found = Objective(terms)(given)
    assert set(found) == {"class"}
    assert float(total) == pytest.approx(2 * value("class", given), rel=1e-6)
    assert float(Objective(())(given)[0]) == 0.0


def test_without_classes_there_is_no_class_loss() -> None:
    dense = seen(logits=numbers(B, K, 5, 5))
    assert not Objective((LossTerm("confidence"), LossTerm("balance")))(dense)[1]
