"""The images of a run, made when they are asked for: few where a student needs no more.

    few images  -> initialize -> near enough: done
                              -> else: all images -> initialize -> train       8 bits, quick effort
    some images -> initialize -> near: train on them
                              -> else: all images -> initialize -> train       narrow weights alone

Eight bits train nothing as a rule (`distill/schedule.needs_training`), and what ranges and GPTQ
take from images, few of them give. Divergence of untrained W8A8 students, in nats, on other images,
optimized and procedural, where a share of the work went into their own (seeds 0 and 1; else 0):

                              0.15                            0.05                `FEW`
    own ResNet-20, 512        0.0011 0.0012, 0.0034 0.0033    0.0011 0.0010, 0.0029 0.0024
    WinML CNN, 512            0.00007, 0.00021                0.00009, 0.00021
    MNIST CNN, 512            0.00007, 0.00016                0.00006, 0.00016
    EfficientNet-Lite0, 256   0.0042, 0.0092                  0.0032, 0.0091

Where an untrained student is too far off, all images are made, as for fewer bits. A recipe that
leaves fewer bits untrained as well (`DistillationConfig.needs_training_kl`) begins with as few:
an untrained W4A4 of the own ResNet-20 is 0.0521 and 0.0857 off with 0.05 of the work, 0.0542 and
0.0928 with 0.15, 0.0390 and 0.0846 with all of it (seed 0).

A classifier at W4A8 that is near is trained on fewer images: the own ResNet-20 (768 other images of
each kind, seed 0) begins 0.0071 and 0.0124 off, and after 344 steps of 64 it is 0.0053 and 0.0119
off on all of its images, 0.0057 and 0.0120 on those of 0.3 of the work, `SOME`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from dfqonnx.config.recipe import Recipe
from dfqonnx.config.synthesis import AUTO
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization import MAX_BITS, BitWidths
from dfqonnx.synthesis.synthesize import SyntheticImages

FEW, SOME = 0.05, 0.3  # of the work that the default spends on images
NEAR = 0.1  # nats that a classifier is off, up to which some images suffice

Make = Callable[[float | None, RunContext], SyntheticImages]


class ImageSupply:
    """Images that the targets of a run share; each amount is made once.

    `make` is given the most work that may be spent (None leaves it to the recipe) and the seconds.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._made: dict[float | None, SyntheticImages] = {}

    def give(self, most_work: float | None, context: RunContext) -> SyntheticImages:
        """Return images, with generators of their own where these learn on in training."""
        if most_work not in self._made:
            self._made[most_work] = self._make(most_work, context)
        images = self._made[most_work]
        return copy.deepcopy(images) if images.generators is not None else images


@dataclass(frozen=True)
class FirstImages:
    """The images that a run makes before it knows how far off its student is.

    `work` is the most that they may take; on them a classifier is trained that is off by
    `train_up_to` nats at most, and others get all images.
    """

    work: float
    train_up_to: float


def choose_first_images(
    recipe: Recipe, bits: BitWidths, budget: float | None, *, has_classes: bool
) -> FirstImages | None:
    """Return the images to begin with; None where all images are made at once.

    That is so where the recipe says how many images or steps there are, and for narrow activations.
    Within a `budget` all are made as well: where few do not suffice, they take time of training.
    """
    synthesis, distillation = recipe.synthesis, recipe.distillation
    decides = synthesis.images is None and synthesis.source in {AUTO, "optimized"}
    if not decides or distillation.steps is not None or budget is not None:
        return None
    if min(bits.weights, bits.activations) >= MAX_BITS or distillation.needs_training_kl:
        return FirstImages(FEW * synthesis.budget_scale, 0.0)
    if bits.activations >= MAX_BITS and has_classes:
        return FirstImages(SOME * synthesis.budget_scale, NEAR)
    return None
