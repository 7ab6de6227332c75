"""An interrupted run goes on where it was, and ends with the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dfqonnx.checkpoint import stages
from dfqonnx.checkpoint.cache import CacheUse
from dfqonnx.config.request import run_request
from dfqonnx.core.progress import Progress
from dfqonnx.workflows import run as flow
from tests.cli.networks import balanced_classifier

STEPS = 12
PLAIN = f"""
about: x
synthesis: {{source: dead-leaves, images: 48}}
distillation: {{steps: {STEPS}, batch_size: 16, mixup: 0.5, weight_averaging: 0.6}}
"""
SGD = f"""
about: x
synthesis: {{source: dead-leaves, images: 48}}
distillation: {{steps: {STEPS}, batch_size: 16, optimizer: {{kind: sgd, rounding: ste}}}}
"""
GENERATORS = f"""
about: x
synthesis:
  source: generator
  images: 48
  batch_size: 16
  losses: {{batchnorm-kl: 1.0, adversarial: 1.0}}
  generator: {{architecture: gdfq, latent: 8, width_multiplier: 0.1, iterations: 2, batch_size: 16}}
  co_training: {{opponent: student, generators: 2, students: 2, student_steps: 1}}
distillation: {{steps: {STEPS}, batch_size: 16}}
"""


class Interrupted(Exception):
    """Stands for a kill: nothing is saved on the way out."""


@dataclass
class Interrupting(Progress):
    """Interrupts when a stage starts, or after some of its steps; collects what is told."""

    stage: str = ""
    after: int = -1  # -1: at its start
    told: list[str] = field(default_factory=list)
    seen: list[tuple[str, int]] = field(default_factory=list)  # stages, and where each began

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        self.seen.append((stage, done))
        self.at, self.count = stage, 0
        if stage == self.stage and self.after < 0:
            raise Interrupted

    def advance(self, units: int = 1, **figures: float) -> None:
        self.count += units
        if self.at == self.stage and self.count == self.after:
            raise Interrupted

    def note(self, message: str) -> None:
        self.told.append(message)

    def warn(self, message: str) -> None:
        self.told.append(message)

    def begins(self, stage: str) -> list[int]:
        return [done for name, done in self.seen if name == stage]


Quantize = Callable[..., bytes]


class Exported(Exception):
    """The file is written: what comes behind only measures."""


@pytest.fixture
def quantize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quantize:
    """Run up to the exported file, which is returned; a state is kept after every step."""
    model = balanced_classifier(tmp_path / "net.onnx")
    monkeypatch.setattr(stages, "MOST_SECONDS", 0.0)
    found: list[bytes] = []

    def stop(run: object, files: tuple[Path, Path], *_: object, **__: object) -> None:
        found.append(files[1].read_bytes())
        raise Exported

    monkeypatch.setattr(flow, "_evaluate", stop)

    def run(
        recipe: str = PLAIN,
        progress: Progress | None = None,
        *,
        bits: str = "w4a4",
        use: CacheUse | None = None,
        **more: object,
    ) -> bytes:
        (tmp_path / "recipe.yaml").write_text(recipe)
        config = run_request(
            model, bits, recipe=tmp_path / "recipe.yaml", preprocess="zero-one",
            out=tmp_path / "out", **more,
        )  # fmt: skip
        with pytest.raises(Exported):
            flow.run(config, progress=progress or Interrupting(), cache=use)
        return found.pop()

    return run


WHOLE: dict[str, bytes] = {}  # what an uninterrupted run writes, by recipe: the same in all tests


def uninterrupted(quantize: Quantize, recipe: str) -> bytes:
    if recipe not in WHOLE:
        WHOLE[recipe] = quantize(recipe, use=CacheUse(enabled=False))
    return WHOLE[recipe]


def interrupt(quantize: Quantize, recipe: str, stage: str, after: int = -1) -> None:
    with pytest.raises(Interrupted):
        quantize(recipe, Interrupting(stage, after))


@pytest.mark.parametrize(
    ("stage", "after"),
    [("initialize", -1), ("distill", -1), ("distill", 1), ("distill", 7), ("distill", STEPS),
     ("export", -1)],
)  # fmt: skip
def test_a_run_goes_on_where_it_was(quantize: Quantize, stage: str, after: int) -> None:
    whole = uninterrupted(quantize, PLAIN)
    interrupt(quantize, PLAIN, stage, after)
    again = Interrupting()
    assert quantize(PLAIN, again) == whole
    assert any("Continuing a run that stopped" in line for line in again.told)
    if stage == "distill" and after > 1:  # the step that was interrupted is not kept yet
        assert again.begins("distill")[0] == after - 1
        assert any(f"at step {after - 1} of {STEPS} of distill" in line for line in again.told)
    if stage == "export":
        assert not again.begins("distill")


@pytest.mark.parametrize("recipe", [SGD, GENERATORS], ids=["sgd", "generators"])
def test_twice_interrupted_is_the_same_as_never(quantize: Quantize, recipe: str) -> None:
    whole = uninterrupted(quantize, recipe)
    interrupt(quantize, recipe, "distill", 4)
    interrupt(quantize, recipe, "distill", 3)
    again = Interrupting()
    assert quantize(recipe, again) == whole
    assert again.begins("distill")[0] == 5
