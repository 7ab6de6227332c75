"""Whether classes and labels can carry the judgments that are made of them. N images, K classes.

Chance: two networks that choose independently of each other, each with its own frequencies p and q,
agree on a share sum_k p_k q_k of all images (Cohen, 1960), and no labels are guessed worse than by
1 / K. A share is at chance where its interval reaches down to that.

Labels in another order: with C[l, c] the images of label l for which the float model says c, the
permutation that fits best maximizes sum_l C[l, perm(l)], an assignment problem (solved as by Jonker
and Volgenant, 1987). It always fits at least as well as the labels as they are, and the better the
fewer images there are, so it is fitted on one half of the images of every label and tried on the
other, both ways. With b images that only the permuted labels get right and c that only the given
ones do, McNemar's exact test, one-sided, says how likely b or more of b + c would be at one half. A
good model gives next to no b, however few images there are. Permuting must also remove a quarter of
the errors: a model at chance may confuse classes in a way that fits a permutation by a little.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from lap import lapjv
from numpy.typing import NDArray

from dfqonnx.evaluation.statistics import Interval, sign_test

Labels = NDArray[np.int64]
MOST_CLASSES = 2048  # among labels and predictions: the assignment takes their third power
SIGNIFICANCE = 1e-4  # of the test of permuted labels
LEAST_GAIN = 0.25  # of the errors


@dataclass(frozen=True)
class PermutationFit:
    """How well the float model's classes fit the labels, as given and best permuted."""

    given: float  # share of images
    permuted: float  # share of images, each judged by a permutation fitted on others
    p_value: float

    @property
    def is_better(self) -> bool:
        """Whether the permuted labels fit better, by more than chance and much better."""
        is_much = self.permuted - self.given >= LEAST_GAIN * (1 - self.given)
        return is_much and self.p_value < SIGNIFICANCE


@dataclass(frozen=True, kw_only=True)
class ClassEvidence:
    """What the classes of two networks on the same images tell about the images and labels."""

    classes: int  # K, which the output holds
    chosen: int  # how many of them the float model chooses on these images
    chance: float  # the agreement of independent choices, 0..1
    permutation: PermutationFit | None = None  # None without labels, or with too many classes


def describe_classes(
    teacher: Labels, student: Labels, classes: int, labels: Labels | None = None
) -> ClassEvidence:
    """Return what the chosen classes (N,) of both networks tell about images and labels."""
    return ClassEvidence(
        classes=classes,
        chosen=len(np.unique(teacher)),
        chance=chance_agreement(teacher, student, classes),
        permutation=None if labels is None else fit_permutation(labels, teacher),
    )


def chance_agreement(first: Labels, second: Labels, classes: int) -> float:
    """Return the share on which independent choices of the same frequencies agree, from 1 / K."""
    shares = [np.bincount(each, minlength=classes) / max(1, len(each)) for each in (first, second)]
    return max(1 / classes, float(shares[0] @ shares[1]))


def is_at_chance(share: Interval, chance: float) -> bool:
    """Return whether the interval of a share reaches down to chance, both in the same unit."""
    return share.low <= chance


def fit_permutation(labels: Labels, chosen: Labels) -> PermutationFit | None:
    """Compare the labels (N,) as given with the permutation that fits the chosen classes best."""
    known, places = np.unique(np.concatenate([labels, chosen]), return_inverse=True)
    if len(known) > MOST_CLASSES or not len(labels):
        return None
    truth, found = places[: len(labels)], places[len(labels) :]
    halves = _alternate(truth)
    right = truth == found
    permuted = np.zeros_like(right)
    for half in (halves, ~halves):
        best = best_permutation(truth[~half], found[~half], len(known))
        permuted[half] = best[truth[half]] == found[half]
    only_permuted, only_given = int((permuted & ~right).sum()), int((right & ~permuted).sum())
    both = only_permuted + only_given
    p_value = sign_test(only_permuted, both) if both else 1.0
    return PermutationFit(float(right.mean()), float(permuted.mean()), float(p_value))


def best_permutation(labels: Labels, chosen: Labels, classes: int) -> Labels:
    """Return the class (K,) that stands for each label where most images fit, itself in ties."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, chosen), 1.0)
    counts += np.eye(classes) / (classes + 1)  # together less than one image
    return np.asarray(lapjv(counts.max() - counts)[1], np.int64)


def _alternate(labels: Labels) -> NDArray[np.bool_]:
    """Return a mask (N,) that holds every other image of each label."""
    order = np.argsort(labels, kind="stable")
    mask = np.zeros(len(labels), bool)
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    mask[order] = (np.arange(len(labels)) - np.repeat(starts, counts)) % 2 == 0
    return mask


def share_in_float(multiply_adds: Mapping[str, int], in_float: Collection[str]) -> float | None:
    """Return the share of all multiply-adds, by node, whose nodes stay in float.

    Where no such node is known by its name, as in files of other tools, every product counts alike.
    """
    total = sum(multiply_adds.values())
    if not total:
        return None
    named = [multiply_adds[name] for name in set(in_float) & multiply_adds.keys()]
    if not named:
        products = sum(1 for count in multiply_adds.values() if count)
        return min(1.0, len(set(in_float)) / products)
    return sum(named) / total
