"""Weighted terms: how a recipe names the losses that it adds up.

    losses: {class: 1.0, batchnorm-mse: 0.1}
    losses: {margin: {weight: 0.5, angle: 0.3}}        a term with a setting of its own

A term is a name, a weight and settings. Names and settings are those of the tables below, the
nearest is named where they are not.

Every loss that a recipe may name: what is known of it without torch.

Images: computed in `synth/losses`, one function each. Students: in `distill/losses`. Tests hold
these tables and the functions together.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dfqonnx.errors import UsageError

WEIGHT = "weight"


@dataclass(frozen=True)
class LossInfo:
    """What is known of a loss before any is computed.

    Attributes:
        about: one line.
        settings: names of its settings and their defaults.
    """

    about: str
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LossTerm:
    """One loss of a sum.

    Attributes:
        name: of the loss.
        weight: its factor; 0 leaves it out.
        settings: pairs of name and value; those left out keep their defaults.
    """

    name: str
    weight: float = 1.0
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def written(self) -> float | dict[str, float]:
        """As in a recipe: a weight, or a mapping where there are settings."""
        return {WEIGHT: self.weight, **dict(self.settings)} if self.settings else self.weight


def read_terms(values: Any, known: Mapping[str, LossInfo], *, where: str) -> tuple[LossTerm, ...]:
    """Return the terms in `values`: a mapping as in a recipe, or terms.

    Args:
        values: name -> weight, or name -> mapping with `weight` and settings; or terms.
        known: every loss of that kind.
        where: key of the recipe, for messages.

    Raises:
        UsageError: an unknown name or setting (the nearest is named), or a value that is no number.
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
        raise UsageError(f"{where}: unknown loss {name!r}{nearest(name, known)}")
    given = dict(value) if isinstance(value, Mapping) else {WEIGHT: value}
    settings = known[name].settings
    for key, number in given.items():
        if key != WEIGHT and key not in settings:
            advice = nearest(str(key), (WEIGHT, *settings))
            raise UsageError(f"{where}.{name}: unknown key {key!r}{advice}")
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            number = _number(number, where=f"{where}.{name}.{key}")
        if not math.isfinite(number) or number < 0:
            raise UsageError(f"{where}.{name}.{key} = {number!r}: must be 0 or more")
        given[key] = float(number)
    weight = given.pop(WEIGHT, 1.0)
    return LossTerm(name, weight, tuple(sorted(given.items())))


def _number(text: Any, *, where: str) -> float:
    """YAML 1.1 reads 1e-3, without a point, as text."""
    try:
        return float(text) if isinstance(text, str) else math.nan
    except ValueError:
        raise UsageError(f"{where} = {text!r}: not a number") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'? Known here: ...`, for the end of a message."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} Known here: {', '.join(names)}"


IMAGE_LOSSES: Mapping[str, LossInfo] = {
    "adversarial": LossInfo("minus KL(teacher || students)", {"temperature": 1.0}),
    "balance": LossInfo("minus the entropy of the teacher's mean answer"),
    "batchnorm-kl": LossInfo("KL(images || training data) of channel statistics, mean of all"),
    "batchnorm-kl-reverse": LossInfo("KL(training data || images) of channel statistics, summed"),
    "batchnorm-kl-sum": LossInfo("KL(images || training data) of channel statistics, summed"),
    "batchnorm-mse": LossInfo("squared error of channel statistics, mean over layers"),
    "batchnorm-norm": LossInfo("Euclidean distance of means and of variances, sum over layers"),
    "batchnorm-pseudo-kl": LossInfo("DFQF's divergence of channel statistics, summed over layers"),
    "batchnorm-sample": LossInfo("squared distance of every image's own statistics, summed"),
    "blur": LossInfo("mean squared difference from a blurred copy"),
    "class": LossInfo("cross-entropy to the class asked for"),
    "cluster": LossInfo(
        "deep statistics per class, off their moving centroids",
        {"rate": 0.1, "noise": 0.2, "deep": 0.34, "after": 0.0},
    ),
    "competition": LossInfo("1 - Jensen-Shannon, teacher to students", {"temperature": 3.0}),
    "confidence": LossInfo("mean entropy of the teacher's answers"),
    "focal": LossInfo("cross-entropy times (1 - p)^gamma: hard images", {"gamma": 2.0}),
    "labels": LossInfo("KL of the teacher to the labels asked for; they may name two classes"),
    "margin": LossInfo("angles below this one between features and class center", {"angle": 0.3}),
    "smooth": LossInfo("total variation"),
    "smooth-norm": LossInfo("Euclidean norms of differences in four directions"),
}
STUDENT_LOSSES: Mapping[str, LossInfo] = {
    "attention": LossInfo("blocks' channel attention, squared error of unit vectors, summed"),
    "class": LossInfo("cross-entropy to the class asked for, or to the teacher's own"),
    "dkd": LossInfo(
        "decoupled distillation: the target class, and the others among themselves",
        {"target": 1.0, "others": 8.0},
    ),
    "kd": LossInfo("KL(teacher || student) T^2"),
    "logits": LossInfo("mean squared error of the logits"),
    "features": LossInfo("blocks' squared error over the teacher's variance, summed"),
}
