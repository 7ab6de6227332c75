"""The images of a run, made when they are asked for: few where a student needs no more.

    few images  -> initialize -> near enough: done
                              -> else: all images -> initialize -> train       8 bits, quick effort
    some images -> initialize -> near: train on them
                              -> else: all images -> initialize -> train       little is expected

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

A classifier that is near is trained on fewer images, `SOME`. Divergence of the own ResNet-20 on 768
other images of each kind, untrained and after steps of 64 on all images and on those of a share:

    W4A8, 344 steps, 0.3, seed 0    0.0071 0.0124    0.0053 0.0119    0.0057 0.0120
    W4A4, 300 steps, 0.6, seed 0    0.0390 0.0846    0.0312 0.0632    0.0294 0.0617
    W4A4, 300 steps, 0.6, seed 1                     0.0309 0.0656    0.0279 0.0713
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from dfqonnx.config.recipe import Recipe
from dfqonnx.config.synthesis import AUTO
from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.core.quantization import MAX_BITS, BitWidths
from dfqonnx.synthesis.budget import plan_synthesis
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.workflows.teacher import Teacher


@dataclass(frozen=True)
class FirstImages:
    """The images that a run makes before it knows how far off its student is.

    `work` is the most that they may take; on them a classifier is trained that is off by
    `train_up_to` nats at most, and others get all images.
    """

    work: float
    train_up_to: float


FEW = 0.05  # of the work that the default spends on images
MANY = 2000  # images, which some suffice of: those of a ResNet-20 are 5,120
SOME = (  # nats that a classifier is expected to be off, at most, and the images it begins with
    (0.05, FirstImages(0.3, train_up_to=0.1)),
    (0.1, FirstImages(0.6, train_up_to=0.3)),
)

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


def find_first_images(
    recipe: Recipe,
    teacher: Teacher,
    bits: BitWidths,
    *,
    budget: float | None,
    memory: MemoryShare,
) -> FirstImages | None:
    """Return the images to begin with for a network; see `choose_first_images`."""
    spec = recipe.synthesis
    planned = plan_synthesis(
        spec, teacher.cost, teacher.inputs.shape, scale=spec.budget_scale, memory=memory
    )
    return choose_first_images(
        recipe,
        bits,
        budget,
        expected_kl=teacher.expect_divergence(bits),
        all_images=planned.images,
    )


def choose_first_images(
    recipe: Recipe,
    bits: BitWidths,
    budget: float | None,
    *,
    expected_kl: float | None,
    all_images: int,
) -> FirstImages | None:
    """Return the images to begin with; None where all images are made at once.

    That is so where the recipe says how many images or steps there are, and where much is to be
    trained: more than by default, or a classifier that is far off untrained, by `expected_kl` nats
    (None: no classifier). A large network has few images anyhow, and trains on `all_images`. Within
    a `budget` all are made as well: where few do not suffice, they take time of training.
    """
    synthesis, distillation = recipe.synthesis, recipe.distillation
    decides = synthesis.images is None and synthesis.source in {AUTO, "optimized"}
    if not decides or distillation.steps is not None or budget is not None:
        return None
    scale = synthesis.budget_scale
    if min(bits.weights, bits.activations) >= MAX_BITS or distillation.needs_training_kl:
        few = FEW * max(1.0, scale)
        return FirstImages(few, train_up_to=0.0) if few < scale else None
    if expected_kl is None or distillation.budget_scale > 1 or all_images < MANY:
        return None
    first = next((images for most, images in SOME if expected_kl <= most), None)
    return None if first is None else replace(first, work=first.work * scale)
