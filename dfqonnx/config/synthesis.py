"""How synthetic images are made: a source, the losses it lowers, and their settings.

source: optimized            or generator, procedural, dead-leaves, fields, noise
losses: {batchnorm-kl: 10, labels: 0.5, smooth: 0.05}
pixels: {...}                images optimized through the teacher (`PixelOptimizationConfig`)
generator: {...}             a network that makes images (`GeneratorConfig`)
co_training: {...}           the networks it trains against (`CoTrainingConfig`)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from dfqonnx.config.bounds import check_fractions, check_least, check_milestones, check_positive
from dfqonnx.config.loss_terms import IMAGE_LOSSES, LossTerm, read_terms
from dfqonnx.errors import UsageError

AUTO: Literal["auto"] = "auto"
PAINTING = (AUTO, "optimized", "procedural", "dead-leaves")  # sources of procedural images
PixelLRSchedule = Literal["cosine", "constant", "plateau", "steps"]
Precision = Literal["auto", "float32"]
Start = Literal["dead-leaves", "noise"]
Opponent = Literal["none", "float", "student"]


def _image_terms(values: Any) -> tuple[LossTerm, ...]:
    return read_terms(values, IMAGE_LOSSES, where="synthesis.losses")


ImageTerms = Annotated[tuple[LossTerm, ...], BeforeValidator(_image_terms)]


@dataclass(frozen=True, kw_only=True)
class PixelOptimizationConfig:
    """Images optimized one batch after another; `None` is decided from the model's cost.

    Attributes:
        first_batch_steps: optimization steps of the first batch; 0 with `batch_steps` 0 optimizes
            nothing.
        batch_steps: steps of each later batch.
        lr: learning rate on normalized pixels (Adam).
        betas: the betas of Adam.
        lr_schedule: how the rate falls: along a cosine, not at all, to a tenth when 80 % of the
            steps are over (`steps`), or on a plateau of the loss.
        min_lr_ratio: final rate over first; the least one where it falls on plateaus.
        patience: steps without a lower loss before the rate falls to a tenth (`lr_schedule:
            plateau`).
        start: what a batch starts from: procedural images (`dead-leaves`, of which `text_fraction`
            are pictures of text), or noise N(0, 1) on normalized pixels.
        jitter: largest shift while optimizing, as a fraction of the image's side.
        flip: mirror the batch in half of the steps.
        copies: copies of every image that the losses see, each flipped, cropped and cut out in
            another way where there are more than one (`synthesis/augmentation`).
        clamp: keep every pixel in its valid range while optimizing; it is at the end in any case.
        precision: of products in the teacher: `auto` takes bfloat16 where the machine has
            instructions for it and the network's values stay near (`convert/reduced_precision`).
    """

    first_batch_steps: int | None = None
    batch_steps: int | None = None
    lr: float = 0.05
    betas: tuple[float, float] = (0.5, 0.9)
    lr_schedule: PixelLRSchedule = "cosine"
    min_lr_ratio: float = 0.1
    patience: int = 50
    start: Start = "dead-leaves"
    jitter: float = 0.0625
    flip: bool = True
    copies: int = 1
    clamp: bool = True
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        where = "synthesis.pixels"
        check_least(self, where, first_batch_steps=0, batch_steps=0, patience=1, copies=1)
        check_positive(self, where, "lr")
        _check_betas(self.betas, where)
        check_fractions(self, where, "min_lr_ratio")
        if not 0 <= self.jitter < 0.5:
            raise UsageError(
                f"synthesis.pixels.jitter {self.jitter}: must be in 0..0.5, 0.5 excluded"
            )


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A network from random vectors to images.

    Attributes:
        architecture: name of a generator.
        latent: length of the random vector.
        width_multiplier: factor on the published numbers of channels.
        conditional: whether it is given the class to make.
        iterations: steps before the student trains; with an opponent `float`, against that one.
        warmup_iterations: the first of these steps, which leave out the losses that need an
            opponent.
        batch_size: images of one step.
        lr: learning rate (Adam).
        betas: the betas of Adam.
        lr_schedule: how the rate falls: over the student's training where the generator goes on
            learning in it, else over `iterations`.
        milestones: where `lr_schedule: steps` divides the rate by 10, as fractions.
        crop: the least share of an image's area that is left where half of all batches are cropped
            and mirrored before any network sees them; 1 does neither.
        checkpoint: npz file of a generator trained before, which is then used as it is.
    """

    architecture: str = "gdfq"
    latent: int = 100
    width_multiplier: float = 1.0
    conditional: bool = True
    iterations: int = 800
    warmup_iterations: int = 0
    batch_size: int = 200
    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    lr_schedule: PixelLRSchedule = "constant"
    milestones: tuple[float, ...] = ()
    crop: float = 1.0
    checkpoint: str = ""

    def __post_init__(self) -> None:
        where = "synthesis.generator"
        check_least(self, where, latent=1, iterations=0, warmup_iterations=0, batch_size=2)
        check_positive(self, where, "lr")
        _check_betas(self.betas, where)
        if not 0 < self.width_multiplier <= 4:
            raise UsageError(
                f"synthesis.generator.width_multiplier {self.width_multiplier}: must be above 0, "
                "4 at most"
            )
        check_milestones(self.milestones, where)
        if not 0 < self.crop <= 1:
            raise UsageError(f"synthesis.generator.crop {self.crop}: must be above 0, 1 at most")


@dataclass(frozen=True, kw_only=True)
class CoTrainingConfig:
    """Generators and students that train against each other.

    Attributes:
        opponent: the network of the adversarial losses: the quantized `student` in its own
            training, or a `float` network of the teacher's form, trained from random weights
            beside the generator.
        generators: the number of generators; every batch takes equal shares from all.
        students: the number of quantized copies that train; the one that agrees best is kept.
        student_steps: steps of the student for each of the generator, while the student trains; 0
            leaves the generator as it is by then.
        redraw: whether students draw every batch anew from a generator that learns no more, instead
            of from `images` drawn once; from one that goes on learning they always do.
        opponent_lr: learning rate of a float opponent (SGD, momentum 0.9).
        opponent_weight_decay: weight decay of a float opponent.
    """

    opponent: Opponent = "none"
    generators: int = 1
    students: int = 1
    student_steps: int = 0
    redraw: bool = False
    opponent_lr: float = 0.1
    opponent_weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        where = "synthesis.co_training"
        check_least(self, where, generators=1, students=1, student_steps=0, opponent_weight_decay=0)
        check_positive(self, where, "opponent_lr")


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """Images for one run. `None` is decided from the model's cost, the same on every machine.

    Attributes:
        source: name of a source; `auto` takes `optimized` images wherever a teacher has something
            to optimize for, and structured `fields` for inputs that are not images.
        images: the number of images, procedural ones included.
        dead_leaves_fraction: share of them that stays procedural when a teacher optimizes the
            others; where `images` is open and they are large, the share of the others is up to
            twice as large.
        painted_fraction: share of procedural images beside those of a source that makes none:
            a generator or noise, where the model reads images; also of a batch that is drawn anew
            from a generator. Batches of images that were drawn once take both kinds equally.
        text_fraction: share of pictures of text among procedural images; None chooses the share
            that comes nearest to the statistics of BatchNormalization, else by the image's shape.
        budget_scale: work relative to what the model's cost suggests; images and steps follow.
        batch_size: images optimized together; fewer where memory is short.
        two_class_fraction: share of images whose label names two classes.
        losses: name -> weight; what images are made to lower.
        pixels: settings of the source `optimized`.
        generator: settings of the source `generator`.
        co_training: generators and students that train against each other.
    """

    source: str = AUTO
    images: int | None = None
    dead_leaves_fraction: float = 0.8
    painted_fraction: float = 0.0
    text_fraction: float | None = None
    budget_scale: float = 1.0
    batch_size: int = 256
    two_class_fraction: float = 0.4
    losses: ImageTerms = (
        LossTerm("smooth", 0.05),
        LossTerm("batchnorm-kl", 10.0),
        LossTerm("labels", 0.5),
    )
    pixels: PixelOptimizationConfig = field(default_factory=PixelOptimizationConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    co_training: CoTrainingConfig = field(default_factory=CoTrainingConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", _image_terms(self.losses))
        check_least(self, "synthesis", images=2, batch_size=2)
        if not 0 < self.budget_scale <= 100:
            raise UsageError(
                f"synthesis.budget_scale {self.budget_scale}: must be above 0, 100 at most"
            )
        fractions = (
            "dead_leaves_fraction",
            "painted_fraction",
            "text_fraction",
            "two_class_fraction",
        )
        check_fractions(self, "synthesis", *fractions)
        if self.painted_fraction == 1:
            raise UsageError("synthesis.painted_fraction 1: must be below 1; or source: procedural")
        if self.painted_fraction and self.source in PAINTING:
            raise UsageError(
                f"synthesis.painted_fraction {self.painted_fraction}: source {self.source} paints"
                " by itself; set dead_leaves_fraction instead"
            )

    def weight(self, name: str) -> float:
        """Return the weight of a loss; 0 for one that is not named."""
        return next((term.weight for term in self.losses if term.name == name), 0.0)


def _check_betas(betas: tuple[float, float], where: str) -> None:
    if any(not 0 <= beta < 1 for beta in betas):
        raise UsageError(f"{where}.betas {list(betas)}: must be in 0..1, 1 excluded")
