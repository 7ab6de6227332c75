"""How synthetic images are made: a source, the losses it lowers, and what it lowers them with.

source: optimised            or generator, leaves, noise
losses: {batchnorm-kl: 10, labels: 0.5, smooth: 0.05}
pixels: {...}                images optimised one by one (`PixelOptimizationConfig`)
generator: {...}             a network that makes them (`GeneratorConfig`)
game: {...}                  whom it plays against (`CoTrainingConfig`)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from dfqonnx.config.loss_terms import IMAGE_LOSSES, LossTerm, read_terms
from dfqonnx.errors import UsageError

AUTO = "auto"
PixelLRSchedule = Literal["cosine", "constant", "plateau", "steps"]
Start = Literal["leaves", "noise"]
Opponent = Literal["none", "float", "student"]


def _image_terms(values: Any) -> tuple[LossTerm, ...]:
    return read_terms(values, IMAGE_LOSSES, where="synth.losses")


ImageTerms = Annotated[tuple[LossTerm, ...], BeforeValidator(_image_terms)]


@dataclass(frozen=True)
class PixelOptimizationConfig:
    """Images optimised one batch after another; `None` is decided from the model's cost.

    Attributes:
        first: optimisation steps of the first batch; 0 with `following` 0 optimises nothing.
        following: steps of each later batch.
        rate: learning rate on normalised pixels (Adam).
        betas: Adam's.
        fall: how the rate falls: along a cosine, not at all, or when the loss stops falling.
        last: final rate over first; the least one where it falls at a plateau.
        patience: steps without a lower loss before the rate falls to a tenth (`fall: plateau`).
        start: what a batch begins as: dead leaves, or noise N(0, 1) on normalised pixels.
        jitter: largest shift while optimising, as a fraction of the image's side.
        flip: mirror the batch in half of the steps.
        clamp: keep every pixel in its valid range while optimising; it is at the end in any case.
    """

    first: int | None = None
    following: int | None = None
    rate: float = 0.05
    betas: tuple[float, float] = (0.5, 0.9)
    fall: PixelLRSchedule = "cosine"
    last: float = 0.1
    patience: int = 50
    start: Start = "leaves"
    jitter: float = 0.0625
    flip: bool = True
    clamp: bool = True

    def __post_init__(self) -> None:
        for key in ("first", "following"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise UsageError(f"synth.pixels.{key} {value}: must be 0 or more")
        _rate(self.rate, self.betas, where="synth.pixels")
        if self.patience < 1:
            raise UsageError(f"synth.pixels.patience {self.patience}: must be 1 or more")
        if not 0 <= self.last <= 1:
            raise UsageError(f"synth.pixels.last {self.last}: must be in 0..1")
        if not 0 <= self.jitter < 0.5:
            raise UsageError(f"synth.pixels.jitter {self.jitter}: must be in 0..0.5, 0.5 excluded")


@dataclass(frozen=True)
class GeneratorConfig:
    """A network from random vectors to images.

    Attributes:
        architecture: name of a generator.
        latent: length of the random vector.
        slim: factor on the published numbers of channels.
        conditional: whether it is told which class to make.
        iterations: steps before the student trains; with an opponent `float`, against that one.
        alone: how many of these, the first ones, leave out the terms that need an opponent.
        batch: images of one step.
        rate: learning rate (Adam).
        betas: Adam's.
        fall: of the rate: over the student's training where the generator goes on learning in it,
            else over `iterations`.
        milestones: where `fall: steps` divides the rate by 10, as fractions.
        kept: npz file of a generator trained before, which is then used as it is.
    """

    architecture: str = "gdfq"
    latent: int = 100
    slim: float = 1.0
    conditional: bool = True
    iterations: int = 800
    alone: int = 0
    batch: int = 200
    rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    fall: PixelLRSchedule = "constant"
    milestones: tuple[float, ...] = ()
    kept: str = ""

    def __post_init__(self) -> None:
        for key, least in (("latent", 1), ("iterations", 0), ("alone", 0), ("batch", 2)):
            if getattr(self, key) < least:
                raise UsageError(
                    f"synth.generator.{key} {getattr(self, key)}: must be {least} or more"
                )
        _rate(self.rate, self.betas, where="synth.generator")
        if not 0 < self.slim <= 4:
            raise UsageError(f"synth.generator.slim {self.slim}: must be above 0, 4 at most")
        if any(not 0 < m < 1 for m in self.milestones):
            raise UsageError(f"synth.generator.milestones {list(self.milestones)}: must be in 0..1")


@dataclass(frozen=True)
class CoTrainingConfig:
    """Generators and students against each other.

    Attributes:
        opponent: whom `adversarial` is measured against: the quantized `student` in its own
            training, or a `float` network of the teacher's form, trained from random weights
            beside the generator.
        generators: how many; every batch takes equal shares from all.
        students: how many quantized copies train; the one that agrees best is kept.
        student_steps: steps of the student for each of the generator, while the student trains; 0
            leaves the generator as it is by then.
        fresh: whether students draw every batch anew from a generator that learns no more, instead
            of from `images` drawn once; from one that goes on learning they always do.
        rate: learning rate of a float opponent (SGD, Nesterov momentum 0.9).
        decay: weight decay of a float opponent.
    """

    opponent: Opponent = "none"
    generators: int = 1
    students: int = 1
    student_steps: int = 0
    fresh: bool = False
    rate: float = 0.1
    decay: float = 5e-4

    def __post_init__(self) -> None:
        for key, least in (("generators", 1), ("students", 1), ("student_steps", 0)):
            if getattr(self, key) < least:
                raise UsageError(f"synth.game.{key} {getattr(self, key)}: must be {least} or more")
        if self.rate <= 0:
            raise UsageError(f"synth.game.rate {self.rate}: must be above 0")
        if self.decay < 0:
            raise UsageError(f"synth.game.decay {self.decay}: must be 0 or more")


@dataclass(frozen=True)
class SynthesisConfig:
    """Images for one run. `None` is decided from the model's cost, the same on every machine.

    Attributes:
        source: name of a source; `auto` takes `optimised` images wherever a teacher has something
            to optimise for, and noise for inputs that are not images.
        images: how many in all, procedural ones included.
        procedural: share of them that stays procedural when a teacher optimises the others; where
            `images` is open and they are large, the share of the others is up to twice as large.
        effort: work relative to what the model's cost suggests; images and steps follow.
        batch: images optimised together; less where memory asks for it.
        boundary: share of images that ask for two classes at once.
        losses: name -> weight; what images are made to lower.
        pixels: of the source `optimised`.
        generator: of the source `generator`.
        game: generators and students against each other.
    """

    source: str = AUTO
    images: int | None = None
    procedural: float = 0.8
    effort: float = 1.0
    batch: int = 256
    boundary: float = 0.4
    losses: ImageTerms = (
        LossTerm("smooth", 0.05),
        LossTerm("batchnorm-kl", 10.0),
        LossTerm("labels", 0.5),
    )
    pixels: PixelOptimizationConfig = field(default_factory=PixelOptimizationConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    game: CoTrainingConfig = field(default_factory=CoTrainingConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", _image_terms(self.losses))
        for key in ("images", "batch"):
            value = getattr(self, key)
            if value is not None and value < 2:
                raise UsageError(f"synth.{key} {value}: must be 2 or more")
        if not 0 < self.effort <= 100:
            raise UsageError(f"synth.effort {self.effort}: must be above 0, 100 at most")
        for key in ("procedural", "boundary"):
            if not 0 <= getattr(self, key) <= 1:
                raise UsageError(f"synth.{key} {getattr(self, key)}: must be in 0..1")

    def weight(self, name: str) -> float:
        """Return the weight of a loss; 0 for one that is not named."""
        return next((term.weight for term in self.losses if term.name == name), 0.0)


def _rate(rate: float, betas: tuple[float, float], *, where: str) -> None:
    if rate <= 0:
        raise UsageError(f"{where}.rate {rate}: must be above 0")
    if any(not 0 <= beta < 1 for beta in betas):
        raise UsageError(f"{where}.betas {list(betas)}: must be in 0..1, 1 excluded")
