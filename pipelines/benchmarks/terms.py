"""What every term of every recipe does: its value, and its share of the gradient.

    python pipelines/benchmarks/terms.py --model M --preprocess cifar10 --into PAGE [--recipe R ...]

Recipes run on a trained network as they are published (`paper`, else their only scale), with few
steps and images: generators take `STEPS` steps of `BATCH` images, pixels as many, students
`STUDENT_STEPS`, with one of the generator for each. Terms that begin later, or rest in between, are
brought forward to fit in. Of every term is written, as the mean over the last half of the steps:
the value before its weight, and the norm of its weighted gradient over the sum of all terms' norms.
Gradients of image losses are those at the images, of student losses those at the trained
parameters.

A term acts where its gradient is not 0, and weakly where its share is below `WEAK`: so early, with
the weight that its authors gave it. The page has a row for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dfqonnx.distill.trainer as trainer_module
from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.config.recipe import Recipe, read_recipe, recipe_scales, shipped_recipes
from dfqonnx.convert.importer import to_program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.distill.distill import distill
from dfqonnx.distill.losses import STUDENT_LOSSES, DistillationLossInputs, weighted_sum
from dfqonnx.distill.trainer import Replica
from dfqonnx.equalization.equalize import equalize
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.synthesis.losses.objective import ImageLossInputs, Objective
from dfqonnx.synthesis.synthesize import synthesize
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

STEPS, BATCH, STUDENT_STEPS = 40, 50, 5
WIDTH = 0.5  # the most of a generator's channels
EVERY = 4  # image steps between two measurements
WEAK = 1e-3  # of the gradient


@dataclass(frozen=True, kw_only=True)
class TermFigure:
    """What one term did."""

    recipe: str
    scale: str
    network: str  # images or student: what the term trains
    term: str
    weight: float
    value: float  # before its weight
    share: float  # of the sum of all terms' gradient norms
    ran: bool = True  # False where it was never computed

    @property
    def acts(self) -> str:
        """Whether the term moves anything, in words."""
        if not self.ran or not self.share:
            return "**no**"
        return "yes" if self.share >= WEAK else "weakly"


class Recorder:
    """Values and gradient norms of terms, step by step."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.norms: dict[str, list[float]] = {}

    def add(self, parts: dict[str, tuple[float, Tensor]], leaves: Sequence[Tensor]) -> None:
        """Take in one step: weight and value of every term."""
        for name, (weight, value) in parts.items():
            norm = 0.0
            if value.requires_grad:
                found = torch.autograd.grad(
                    weight * value, leaves, retain_graph=True, allow_unused=True
                )
                norm = sum(float(g.square().sum()) for g in found if g is not None) ** 0.5
            self.values.setdefault(name, []).append(float(value.detach()))
            self.norms.setdefault(name, []).append(norm)

    def figures(self, terms: Iterable[LossTerm], **names: str) -> list[TermFigure]:
        """Return the figures of `terms`, over the last half of the steps."""
        ends = {name: _last_half(norms) for name, norms in self.norms.items()}
        total = sum(ends.values())
        return [
            TermFigure(
                term=term.name,
                weight=term.weight,
                value=_last_half(self.values.get(term.name, [])),
                share=ends.get(term.name, 0.0) / total if total else 0.0,
                ran=term.name in ends,
                **names,
            )
            for term in terms
            if term.weight
        ]


def _last_half(numbers: Sequence[float]) -> float:
    late = numbers[len(numbers) // 2 :]
    return sum(late) / len(late) if late else 0.0


@contextmanager
def recorded(images: Recorder, student: Recorder) -> Iterator[None]:
    """Let every objective and every student's loss within the block tell the recorders."""
    plain, plain_sum, plain_loss = Objective.__call__, weighted_sum, Replica._loss
    count = 0
    current: list[Replica] = []

    def call(self: Objective, inputs: ImageLossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal count
        total, found = plain(self, inputs)
        count += 1
        if count % EVERY == 0 and inputs.images.requires_grad:
            weights = {term.name: term.weight for term, _, _ in self._parts}
            images.add(
                {name: (weights[name], value) for name, value in found.items()}, [inputs.images]
            )
        return total, found

    def loss(self: Replica, batch: Any, variances: Any, answers: Any) -> Tensor:
        current[:] = [self]
        return plain_loss(self, batch, variances, answers)

    def weighted(terms: Iterable[LossTerm], inputs: DistillationLossInputs) -> Tensor:
        parts = {
            term.name: (term.weight, STUDENT_LOSSES[term.name](inputs, **dict(term.settings)))
            for term in terms
            if term.weight
        }
        student.add(parts, current[0]._parameters)
        return plain_sum(terms, inputs)

    patches: list[tuple[Any, str, Callable[..., Any], Callable[..., Any]]] = [
        (Objective, "__call__", plain, call),
        (Replica, "_loss", plain_loss, loss),
        (trainer_module, "weighted_sum", plain_sum, weighted),
    ]
    for where, name, _, new in patches:
        setattr(where, name, new)
    try:
        yield
    finally:
        for where, name, old, _ in patches:
            setattr(where, name, old)


def shorten(recipe: Recipe, *, steps: int = STEPS, batch: int = BATCH) -> Recipe:
    """Return the recipe with few steps and images, and all of its terms within them."""
    few = dataclasses.replace
    synthesis, training = recipe.synthesis, recipe.distillation
    warmup = synthesis.generator.warmup_iterations and 5
    return few(
        recipe,
        synthesis=few(
            synthesis,
            images=max(96, batch),
            batch_size=batch,
            losses=[_brought_forward(term, steps) for term in synthesis.losses],
            pixels=few(synthesis.pixels, first_batch_steps=steps, batch_steps=1),
            generator=few(
                synthesis.generator,
                iterations=steps,
                warmup_iterations=warmup,
                batch_size=batch,
                width_multiplier=min(WIDTH, synthesis.generator.width_multiplier),
            ),
            co_training=few(
                synthesis.co_training, student_steps=min(1, synthesis.co_training.student_steps)
            ),
        ),
        distillation=few(
            training,
            steps=training.steps and STUDENT_STEPS,
            batch_size=min(32, training.batch_size),
            holdout_images=16,
            guard_images=0,
            calibration_images=32,
            gptq_damping=(),
        ),
    )


def _brought_forward(term: LossTerm, steps: int) -> LossTerm:
    settings = dict(term.settings)
    if settings.get("after"):
        settings |= {"after": steps // 3, "period": max(2, steps // 6)}
    return LossTerm(term.name, term.weight, tuple(sorted(settings.items())))


def measure_terms(
    model: Path, recipe: Recipe, *, preprocess: str, seed: int = 0
) -> list[TermFigure]:
    """Run a recipe, as it is given, and return what its terms did."""
    network = normalize(load(model))
    teacher, context = to_program(network), RunContext(seed=seed)
    inputs = InputFormat(PRESETS[preprocess].fitted(network.input_shape), network.input_shape)
    plan = place_quantizers(
        network,
        QuantizationConfig(BitWidths(4, 4)),
        TARGETS[DEFAULT_TARGET],
        input_signed=inputs.signed,
    )
    opponents = make_fixed_opponents(
        teacher, plan, spec=recipe.synthesis, inputs=inputs, context=context
    )
    images, student = Recorder(), Recorder()
    with recorded(images, student):
        made = synthesize(
            teacher,
            network.statistics,
            inputs=inputs,
            config=recipe.synthesis,
            context=context,
            opponents=opponents,
        )
        equalized = equalize(
            teacher,
            plan,
            network.statistics,
            spec=recipe.equalization,
            inputs=inputs,
            progress=SilentProgress(),
        )
        distill(
            equalized,
            Student(equalized.program, equalized.plan),
            made,
            config=recipe.distillation,
            equalization=recipe.equalization,
            inputs=inputs,
            context=context,
        )
    names = {"recipe": recipe.name, "scale": recipe.scale}
    found = []
    if images.norms:
        found += images.figures(recipe.synthesis.losses, network="images", **names)
    if recipe.distillation.steps:
        found += student.figures(recipe.distillation.losses, network="student", **names)
    return found


HEAD = """# What every term does

Made by `python pipelines/benchmarks/terms.py`; edit nothing by hand. Each recipe ran on {model} as it is published, shortened to {steps} steps of {batch} images and
{student} of the student, with half of a generator's channels, at W4A4: enough to see that a term moves something, too few for anything else. *Value* is the term's before its weight, *share* the norm of its
weighted gradient (at the images, or at the student's parameters) over the sum of all terms' norms, both over the last half of the steps. A term acts where that gradient is not 0; below a share of {weak:.1%} it acts
weakly, so early, with the weight that its authors gave it.

| recipe | scale | trains | term | weight | value | share | acts |
| --- | --- | --- | --- | ---: | ---: | ---: | --- |
"""  # noqa: E501 (rows of a table)


def write_page(figures: Sequence[TermFigure], model: str) -> str:
    """Return the page, recipes in order."""
    figures = sorted(figures, key=lambda figure: figure.recipe)
    head = HEAD.format(model=model, steps=STEPS, batch=BATCH, student=STUDENT_STEPS, weak=WEAK)
    rows = [
        f"| {f.recipe} | {f.scale or '-'} | {f.network} | {f.term} | {f.weight:g} |"
        f" {f.value:.4g} | {f.share:.2%} | {f.acts} |\n"
        for f in figures
    ]
    return head + "".join(rows)


def read_figures(path: Path) -> list[TermFigure]:
    """Return the records in a file; nothing where there is none."""
    rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [TermFigure(**json.loads(row)) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--preprocess", default="cifar10", choices=sorted(PRESETS))
    parser.add_argument("--recipe", nargs="+", help="names; all that have losses without it")
    parser.add_argument("--records", type=Path, required=True, help="a JSON line for each term")
    parser.add_argument("--into", type=Path, help="the page")
    places = parser.parse_args()
    torch.set_num_threads(1)
    figures = read_figures(places.records)
    done = {figure.recipe for figure in figures}
    named = places.recipe or [n for n, r in shipped_recipes().items() if r.paper and n != "dfq"]
    for name in [n for n in named if n not in done]:
        scale = "paper" if "paper" in recipe_scales(name) else None
        found = measure_terms(
            places.model, shorten(read_recipe(name, scale=scale)), preprocess=places.preprocess
        )
        figures += found
        with places.records.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(dataclasses.asdict(f)) + "\n" for f in found)
        print(
            *(f"{f.recipe} {f.term} {f.value:.4g} {f.share:.2%}" for f in found),
            sep="\n",
            flush=True,
        )
    if places.into:
        places.into.write_text(write_page(figures, places.model.name), encoding="utf-8")


if __name__ == "__main__":
    main()
