"""The estimated agreement, and every reason not to tell."""

from __future__ import annotations

import numpy as np
import pytest

from dfqonnx.evaluation.agreement_estimate.estimate_agreement import (
    estimate_agreement,
    mean_doubt,
)

RNG = np.random.default_rng(1)


def answers(n: int = 64, classes: int = 10, scale: float = 3.0) -> np.ndarray:
    return scale * RNG.normal(size=(n, classes)).astype(np.float32)


def test_doubt_is_what_the_largest_probability_leaves() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5]])
    # log-probabilities sum to one, so they are logits of themselves, up to float64 rounding
    assert mean_doubt(np.log(shares)) == pytest.approx(1 - (0.7 + 0.5) / 2, rel=1e-12)
    assert mean_doubt(np.array([[1000.0, 0.0]])) == 0


def test_the_float_model_itself_agrees_with_itself() -> None:
    t = answers(n=512)
    told = estimate_agreement(t, t)
    assert told.value is not None
    assert told.low is not None
    assert told.high == 1.0
    assert told.low < told.value
    assert told.value > 0.999
    assert told.low > 0.98
    assert told.basis == "512 fixed images"


def test_more_noise_is_told_to_agree_less() -> None:
    t, noise = answers(n=512), answers(n=512)
    values = [estimate_agreement(t, t + part * noise).value or 0.0 for part in (0.05, 0.2, 0.8)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.05


def test_of_two_classes_agreement_is_told_and_half_is_the_least() -> None:
    t = answers(n=256, classes=2, scale=1.0)
    worst = estimate_agreement(t, -t)
    assert worst.value is not None
    assert worst.value >= 0.5 - 1e-9
    assert worst.low == 0.0, "as far off as the worst known student, so open downwards"
    assert "as far from the float model as the worst" in worst.reason


def test_it_says_where_it_cannot_tell() -> None:
    many = answers(n=4, classes=2001)
    assert "2001 classes" in estimate_agreement(many, many).reason
    one_class = answers(n=4, classes=1)
    assert "1 classes" in estimate_agreement(one_class, one_class).reason
    t = answers()
    bad = t.copy()
    bad[0, 0] = np.nan
    assert "finite" in estimate_agreement(t, bad).reason
    same = answers()
    same[:, 2] += 100
    found = estimate_agreement(same, same)
    assert found.value is None
    assert "one and the same class" in found.reason


@pytest.mark.parametrize(("scale", "word"), [(0.001, "less certain"), (1e5, "more certain")])
def test_a_network_more_or_less_certain_than_the_known_ones_is_not_told_of(
    scale: float, word: str
) -> None:
    classes = 2000 if scale < 1 else 10
    t = answers(classes=classes, scale=scale)
    found = estimate_agreement(t, t)
    assert found.value is None
    assert word in found.reason
    assert found.doubt is not None
