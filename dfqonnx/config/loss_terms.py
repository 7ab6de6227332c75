"""Weighted terms: how a recipe names the losses that it adds up.

    losses: {class: 1.0, batchnorm-mse: 0.1}
    losses: {margin: {weight: 0.5, angle: 0.3}}        a term with a setting of its own

A term is a name, a weight and settings. The tables below list every loss that a recipe may name,
without importing torch. The functions live in `synthesis/losses` (losses of images) and in
`distill/losses.py` (losses of students); tests compare the tables with the functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dfqonnx.errors import UsageError, did_you_mean

WEIGHT = "weight"


@dataclass(frozen=True)
class LossInfo:
    """One line about a loss, and the names of its settings with their defaults."""

    about: str
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LossTerm:
    """One loss of a weighted sum; a weight of 0 leaves it out, missing settings keep defaults."""

    name: str
    weight: float = 1.0
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def written(self) -> float | dict[str, float]:
        """The term as a recipe has it: a weight, or a mapping where there are settings."""
        return {WEIGHT: self.weight, **dict(self.settings)} if self.settings else self.weight


def read_terms(values: Any, known: Mapping[str, LossInfo], *, where: str) -> tuple[LossTerm, ...]:
    """Return the terms in `values`: name -> weight, or name -> mapping with settings; or terms.

    Raises:
        UsageError: a name or a setting is unknown, or a value is not a number.
    """
    if isinstance(values, Mapping):
        pairs: Iterable[tuple[Any, Any]] = values.items()
    elif isinstance(values, (list, tuple)) and all(isinstance(term, LossTerm) for term in values):
        pairs = [(term.name, term.written) for term in values]
    else:
        raise UsageError(f"{where} = {values!r}: expected `name: weight` pairs")
    return tuple(_term(str(name), value, known, where=where) for name, value in pairs)


def _term(name: str, value: Any, known: Mapping[str, LossInfo], *, where: str) -> LossTerm:
    if name not in known:
        raise UsageError(f"{where}: unknown loss {name!r}{did_you_mean(name, known)}")
    given = dict(value) if isinstance(value, Mapping) else {WEIGHT: value}
    settings = known[name].settings
    for key, number in given.items():
        if key != WEIGHT and key not in settings:
            advice = did_you_mean(str(key), (WEIGHT, *settings))
            raise UsageError(f"{where}.{name}: unknown key {key!r}{advice}")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            number = _number(number, where=f"{where}.{name}.{key}")
        if not math.isfinite(number) or number < 0:
            raise UsageError(f"{where}.{name}.{key} = {number!r}: must be 0 or more")
        given[key] = float(number)
    weight = given.pop(WEIGHT, 1.0)
    return LossTerm(name, weight, tuple(sorted(given.items())))


def _number(text: Any, *, where: str) -> float:
    """Return the number in `text`: YAML 1.1 reads 1e-3, which has no point, as text."""
    try:
        return float(text) if isinstance(text, str) else math.nan
    except ValueError:
        raise UsageError(f"{where} = {text!r} is not a number") from None


IMAGE_LOSSES: Mapping[str, LossInfo] = {
    "adversarial": LossInfo("minus KL(teacher || students)", {"temperature": 1.0}),
    "balance": LossInfo("minus the entropy of the teacher's mean class probabilities"),
    "batchnorm-kl": LossInfo(
        "KL(images || training data) of channel statistics, mean of all", {"input": 0.0}
    ),
    "batchnorm-kl-sum": LossInfo("KL(images || training data) of channel statistics, summed"),
    "batchnorm-mse": LossInfo("squared error of channel statistics, mean over layers"),
    "batchnorm-norm": LossInfo("Euclidean distance of means and of variances, sum over layers"),
    "batchnorm-pseudo-kl": LossInfo("DFQF's divergence of channel statistics, summed over layers"),
    "batchnorm-sample": LossInfo("squared distance of every image's own statistics, summed"),
    "blur": LossInfo("mean squared difference from a blurred copy"),
    "class": LossInfo("cross-entropy to the sampled label"),
    "cluster": LossInfo(
        "distance of deep statistics per class from centroids that move now and then",
        {"rate": 0.2, "period": 200.0, "noise": 0.3, "after": 0.0},
    ),
    "competition": LossInfo("1 - Jensen-Shannon, teacher to students", {"temperature": 3.0}),
    "confidence": LossInfo("mean entropy of the teacher's class probabilities"),
    "focal": LossInfo("cross-entropy times (1 - p)^gamma: hard images", {"gamma": 2.0}),
    "labels": LossInfo("KL to the sampled soft labels, which may mix two classes"),
    "logit": LossInfo("exp of minus the scaled logit of the sampled label", {"scale": 0.0004}),
    "margin": LossInfo(
        "hinge on angles of features to their class's center, beyond the usual angle",
        {"angle": 0.2, "rate": 0.1},
    ),
    "smooth": LossInfo("total variation"),
    "smooth-norm": LossInfo("Euclidean norms of differences in four directions"),
}
STUDENT_LOSSES: Mapping[str, LossInfo] = {
    "attention": LossInfo(
        "squared error of normalized channel attention, of residual bodies before their sum, summed"
    ),
    "class": LossInfo("cross-entropy to the sampled label, or to the teacher's own class"),
    "dkd": LossInfo(
        "decoupled distillation: target class and the other classes apart",
        {"target": 1.0, "others": 8.0},
    ),
    "kd": LossInfo("KL(teacher || student) T^2, by the number of classes", {"per_class": 0.0}),
    "layers": LossInfo("smooth L1 of every layer's output, deeper ones weighted more"),
    "logits": LossInfo("mean squared error of the logits"),
    "features": LossInfo("squared error of block outputs over the teacher's variance, summed"),
}
