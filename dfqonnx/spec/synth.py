"""How synthetic images are made."""

from __future__ import annotations

from dataclasses import dataclass

from dfqonnx.errors import UsageError

AUTO = "auto"


@dataclass(frozen=True)
class SynthSpec:
    """Images for one run. `None` is decided from the model's cost, the same on every machine.

    Attributes:
        source: name of a source; `auto` takes `optimised` images wherever a teacher has something
            to optimise for, and noise for inputs that are not images.
        images: how many in all, procedural ones included.
        procedural: share of them that stays procedural when a teacher optimises the others.
        batch: images optimised together; less where memory asks for it.
        first: optimisation steps of the first batch; 0 with `following` 0 optimises nothing.
        following: steps of each later batch.
        rate: learning rate on normalised pixels (Adam).
        statistics: weight of the BatchNorm-statistics loss.
        classes: weight of the class term.
        smooth: weight of the total variation.
        boundary: share of images that ask for two classes at once.
        jitter: largest shift while optimising, as a fraction of the image's side.
    """

    source: str = AUTO
    images: int | None = None
    procedural: float = 0.8
    batch: int = 256
    first: int | None = None
    following: int | None = None
    rate: float = 0.05
    statistics: float = 10.0
    classes: float = 0.5
    smooth: float = 0.05
    boundary: float = 0.4
    jitter: float = 0.0625

    def __post_init__(self) -> None:
        for key in ("images", "batch"):
            value = getattr(self, key)
            if value is not None and value < 2:
                raise UsageError(f"synth.{key} {value}: must be 2 or more")
        for key in ("first", "following", "statistics", "classes", "smooth"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise UsageError(f"synth.{key} {value}: must be 0 or more")
        if self.rate <= 0:
            raise UsageError(f"synth.rate {self.rate}: must be above 0")
        for key in ("procedural", "boundary"):
            if not 0 <= getattr(self, key) <= 1:
                raise UsageError(f"synth.{key} {getattr(self, key)}: must be in 0..1")
        if not 0 <= self.jitter < 0.5:
            raise UsageError(f"synth.jitter {self.jitter}: must be in 0..0.5, 0.5 excluded")
