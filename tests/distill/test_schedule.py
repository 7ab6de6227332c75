"""Rates and numbers of steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.core.quantization import BitWidths
from dfqonnx.distill.schedule import (
    GUARD_WHERE_HELD,
    KL_AT_W4A4,
    KL_BUDGET,
    LEAST_BUDGET,
    LEAST_IMAGES,
    LR_FACTOR_AT_8_BITS,
    MAX_STEPS,
    MIN_STEPS,
    MOST_BUDGET,
    MULTIPLY_ADDS_PER_VALUE,
    NEAR_DIVERGENCE,
    STRETCH,
    WORK,
    choose_optimizer,
    default_steps,
    hold_codes,
    knows_inputs,
    needs_training,
    steps_within,
    training_budget,
)
from dfqonnx.errors import UsageError


def test_the_rate_rises_from_nothing_to_its_peak_and_falls_to_its_floor() -> None:
    assert lr_factor(0.0, "cosine", warmup=0.1, min_ratio=0.01) == 0.0
    assert lr_factor(0.05, "cosine", warmup=0.1, min_ratio=0.01) == pytest.approx(0.5)
    assert lr_factor(0.1, "cosine", warmup=0.1, min_ratio=0.01) == pytest.approx(1.0)
    assert lr_factor(0.55, "cosine", warmup=0.1, min_ratio=0.01) == pytest.approx(0.505)
    assert lr_factor(1.0, "cosine", warmup=0.1, min_ratio=0.01) == pytest.approx(0.01)
    assert lr_factor(2.0, "cosine", warmup=0.1, min_ratio=0.01) == pytest.approx(0.01)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_extreme_warmups_stay_finite(warmup: float) -> None:
    assert all(
        0 <= lr_factor(k / 10, "cosine", warmup=warmup, min_ratio=0.0) <= 1 for k in range(11)
    )


def test_the_default_is_fewer_steps_for_larger_networks_and_more_for_fewer_bits() -> None:
    small, large = default_steps(4 * 10**7, 1.0, 128), default_steps(10**9, 1.0, 128)
    assert 0 < large < small <= MAX_STEPS
    assert large * 4 * 10**9 * 128 <= STRETCH * WORK  # a whole training stays affordable
    assert default_steps(10**9, 1.0, 8) >= MIN_STEPS  # as large networks train: smaller batches
    assert default_steps(4 * 10**7, training_budget(BitWidths(3, 3)), 128) > small
    assert default_steps(4 * 10**7, training_budget(BitWidths(6, 6)), 128) < small


def test_a_network_that_moves_much_and_multiplies_little_trains_fewer_steps() -> None:
    busy = default_steps(18_200_000, 1.0, 32, values=1_070_000)  # MobileNetV2 0.5 at 128
    assert busy < 0.7 * default_steps(18_200_000, 1.0, 32)
    assert busy * 4 * 32 * (18_200_000 + MULTIPLY_ADDS_PER_VALUE * 1_070_000) <= WORK


def test_eight_bits_are_not_trained() -> None:
    assert default_steps(4 * 10**7, training_budget(BitWidths(8, 8)), 128) == 0
    assert default_steps(4 * 10**7, training_budget(BitWidths(4, 8)), 128) > 0


def test_the_default_depends_on_nothing_but_its_arguments() -> None:
    assert len({default_steps(41_000_000, 1.0, 128) for _ in range(3)}) == 1


def test_a_budget_becomes_steps() -> None:
    assert steps_within(10.0, 5, 0.5) == 25
    assert steps_within(-1.0, 5, 0.5) == 6  # one more, to end cleanly
    assert steps_within(10.0, 0, 0.0) > 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", -1), ("batch_size", 0), ("temperature", 0.0), ("mixup", 1.5), ("shift", 0.5)],
)
def test_a_recipe_value_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"distillation.{key}"):
        DistillationConfig(**{key: value})


def test_eight_bits_train_only_where_outputs_are_far_off_and_then_gently() -> None:
    assert default_steps(4 * 10**7, training_budget(BitWidths(8, 8), kl=0.04), 128) > 0
    assert needs_training(None, 0.04)
    assert needs_training(0.01, None)
    assert not needs_training(None, 0.02)
    assert not needs_training(1e-4, None)
    config = DistillationConfig()
    optimizer = choose_optimizer(config, BitWidths(8, 8), kl=0.04).optimizer
    low = config.optimizer.rates().times(LR_FACTOR_AT_8_BITS)
    assert optimizer.kind == "adam"
    assert optimizer.rates() == replace(low, weights=low.biases)


@pytest.mark.parametrize(
    ("batch", "activations", "kl", "kind", "factor"),
    [
        (64, 4, 0.13, "muon", 1.0),
        (63, 4, 0.13, "adam", 1.0),  # a gradient of few images
        (4, 3, None, "adam", 1.0),
        (128, 4, 0.02, "muon", 1.0),
        (64, 8, 0.13, "muon", 1.0),
        (64, 8, 0.5, "muon", 1.0),
        (64, 8, 0.026, "muon", 0.2),  # near to its teacher
        (16, 8, 0.026, "adam", 0.2),
        (64, 8, 0.001, "muon", 0.1),
    ],
)
def test_the_optimizer_is_that_of_the_batch_and_of_how_far_off_a_student_is(
    batch: int, activations: int, kl: float | None, kind: str, factor: float
) -> None:
    config = DistillationConfig(batch_size=batch)
    found = choose_optimizer(config, BitWidths(4, activations), kl=kl).optimizer
    usual = config.optimizer.rates()
    assert found.kind == kind
    codes = usual.weights if kind == "muon" else usual.biases
    assert found.rates().weights == pytest.approx(factor * codes)
    assert found.rates().biases == pytest.approx(factor * usual.biases)
    assert found.rates().scales == pytest.approx(factor * usual.scales)


def test_rates_stay_where_a_recipe_says_its_steps_or_holds_its_codes() -> None:
    said = DistillationConfig(steps=9, batch_size=4)
    held = DistillationConfig(batch_size=4, optimizer=OptimizerConfig(rounding="held"))
    for config, bits in (
        (said, BitWidths(4, 4)),
        (said, BitWidths(8, 8)),
        (held, BitWidths(4, 4)),
    ):
        assert choose_optimizer(config, bits, kl=0.05) == config


def test_a_classifier_trains_as_its_divergence_says() -> None:
    def budget(kl: float) -> float:
        return training_budget(BitWidths(4, 8), kl=kl)

    assert budget(KL_AT_W4A4) == pytest.approx(KL_BUDGET)
    assert budget(2 * KL_AT_W4A4) == pytest.approx(2**0.6 * KL_BUDGET)
    assert budget(32 * KL_AT_W4A4) == pytest.approx(MOST_BUDGET)  # 32^0.6 is 8
    assert budget(KL_AT_W4A4) == training_budget(BitWidths(3, 3), kl=KL_AT_W4A4)
    assert budget(0.0) == budget(1e-9) == LEAST_BUDGET
    assert budget(1e9) == budget(float("inf")) == MOST_BUDGET
    assert training_budget(BitWidths(8, 8), kl=0.005) == 0


@pytest.mark.parametrize(
    ("images", "divergence", "known"),
    [
        (True, None, True),
        (True, 50.0, True),
        (False, None, False),
        (False, 0.99 * NEAR_DIVERGENCE, True),
        (False, NEAR_DIVERGENCE, False),
    ],
)
def test_inputs_are_known_where_they_are_images_or_statistics_vouch_for_them(
    images: bool, divergence: float | None, known: bool
) -> None:
    assert knows_inputs(images=images, divergence=divergence) is known


@pytest.mark.parametrize(
    ("weights", "activations", "kl", "images", "held"),
    [
        (4, 8, None, 20_000, True),
        (2, 8, None, 20_000, True),
        (4, 8, 0.3, 20_000, False),  # a classifier
        (8, 8, None, 20_000, False),
        (4, 4, None, 20_000, False),
        (8, 4, None, 20_000, False),
        (4, 8, 0.3, LEAST_IMAGES - 1, True),  # one that would see few images
        (4, 4, None, LEAST_IMAGES - 1, True),
        (4, 8, 0.3, LEAST_IMAGES, False),
        (8, 8, 0.3, 100, False),
        (4, 8, 0.3, 0, False),  # no training at all
    ],
)
def test_codes_are_held_where_training_sees_few_images_or_narrow_weights_make_no_classes(
    weights: int, activations: int, kl: float | None, images: int, held: bool
) -> None:
    found = hold_codes(DistillationConfig(), BitWidths(weights, activations), kl=kl, images=images)
    assert (found.optimizer.rounding == "held") is held
    assert found.guard_images == (GUARD_WHERE_HELD if held else 0)
    assert (found == DistillationConfig()) is not held
    if held:
        assert found.optimizer.rates() == OptimizerConfig(rounding="held").rates()


def test_a_recipe_that_says_how_to_train_is_taken_at_its_word() -> None:
    straight = DistillationConfig(optimizer=OptimizerConfig(rounding="ste"))
    for config in (DistillationConfig(steps=9), straight):
        assert hold_codes(config, BitWidths(4, 8), kl=None, images=99) == config
    guarded = DistillationConfig(guard_images=500)
    assert hold_codes(guarded, BitWidths(4, 8), kl=None, images=99).guard_images == 500
