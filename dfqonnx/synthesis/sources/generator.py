"""Images from generators: built, trained against the teacher, then drawn from.

Each of `generator.iterations` steps lowers the recipe's losses on a fresh batch. With an opponent
`float` a network of the teacher's form learns beside them, one step each in turn (DFQF); with fixed
opponents given, the `adversarial` term is measured against these; otherwise it is left out here and
begins when the student trains. The first `alone` steps leave it out in any case. Without
statistics those of dead leaves stand in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.bn_statistics import IMAGES, BatchNormTargets, surrogate_statistics
from dfqonnx.synthesis.budget import fitting, measure
from dfqonnx.synthesis.generators.architecture import Form, OutputToPixels, build, load_checkpoint
from dfqonnx.synthesis.generators.classifier_head import find_classifier
from dfqonnx.synthesis.generators.float_adversary import Adversary
from dfqonnx.synthesis.generators.training import (
    GeneratorTrainer,
    OnlineGenerators,
    Opponent,
    TeacherProbe,
)
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

ROOM = 4  # times the memory that optimizing pixels takes


@SOURCES.add("generator")
def generate(studio: SynthesisContext) -> OnlineGenerators:
    """Return trained generators; iterating yields their images.

    Raises:
        UsageError: the model reads no images, or a kept generator does not fit.
    """
    if not studio.inputs.is_image:
        raise UsageError(
            "synthesis.source: generator makes images, and this model reads none;"
            " use --recipe default"
        )
    spec, game = studio.spec.generator, studio.spec.co_training
    judge = _judge(studio)
    height, width, channels = studio.inputs.image_size
    classes = judge.classes if spec.conditional else 0
    form = Form(height, width, channels, spec.latent, classes, spec.width_multiplier)
    canvas = OutputToPixels(studio.inputs, channels, studio.device)
    networks = [
        build(spec.architecture, form, generator=studio.generator) for _ in range(game.generators)
    ]
    if spec.checkpoint:
        load_checkpoint(spec.checkpoint, networks)
    makers = [
        GeneratorTrainer(
            network,
            canvas,
            judge,
            spec=spec,
            losses=studio.spec.losses,
            generator=studio.generator,
            device=studio.device,
        )
        for network in networks
    ]
    live = OnlineGenerators(
        makers,
        judge,
        inputs=studio.inputs,
        spec=spec,
        game=game,
        batch=_batch(studio),
        images=studio.plan.images,
        generator=studio.generator,
    )
    if not spec.checkpoint:
        _train(live, judge, studio)
    return live


def _batch(studio: SynthesisContext) -> int:
    """Return how many images of a step memory holds: of the recipe's, as many as there is room."""
    wanted = studio.spec.generator.batch_size
    fit = ROOM * fitting(measure(studio.teacher, studio.inputs.shape), studio.inputs.shape)
    if studio.device.type == "cuda":
        fit = wanted
    if fit < wanted:
        studio.run.progress.note(
            f"A generator step takes {fit} instead of {wanted} images, to fit into memory."
        )
    return min(fit, wanted)


def _train(live: OnlineGenerators, judge: TeacherProbe, studio: SynthesisContext) -> None:
    spec, game = studio.spec.generator, studio.spec.co_training
    adversary = None
    if game.opponent == "float" and judge.classes:
        adversary = Adversary(
            studio.teacher,
            studio.statistics,
            spec=game,
            generator=studio.generator,
            device=studio.device,
        )
    given: Sequence[Opponent] = studio.opponents if game.opponent == "student" else ()
    given = given if adversary is None else (adversary,)
    started = time.perf_counter()
    studio.run.progress.start("synthesize", max(1, spec.iterations))
    falls = spec.lr_schedule if game.student_steps == 0 else "constant"  # else it falls in the game
    for step in range(spec.iterations):
        done = step / spec.iterations
        opponents = given if step >= spec.warmup_iterations else ()
        figures = live.improve(opponents, rate=lr_factor(done, falls, milestones=spec.milestones))
        if adversary is not None:
            x = live.draw(live.batch, studio.generator).x
            with torch.no_grad():
                goal = judge.net(x)[0]
            figures["opponent"] = adversary.learn(x, goal, done=done)
        studio.run.progress.advance(1, **figures)
        if (
            studio.run.budget_seconds is not None
            and time.perf_counter() - started > studio.run.budget_seconds
        ):
            studio.run.progress.note(
                f"The generator stopped after {step + 1} steps, because its time was used up."
            )
            break


def _judge(studio: SynthesisContext) -> TeacherProbe:
    statistics = studio.statistics
    if not statistics:
        statistics = surrogate_statistics(
            studio.teacher,
            sample_dead_leaves(IMAGES, studio.inputs.image_size, studio.generator),
            studio.inputs,
            batch=studio.plan.batch,
            device=studio.device,
        )
    targets = BatchNormTargets(statistics, studio.device)
    classifier = find_classifier(studio.teacher, studio.device)
    taps = dict.fromkeys(targets.mean)
    if classifier is not None:
        taps[classifier.features] = None
    net = ProgramModule(studio.teacher, taps=tuple(taps), channels_last=True).to(studio.device)
    with torch.no_grad():
        logits, _ = net(torch.zeros(1, *studio.inputs.shape, device=studio.device))
    classes = logits.shape[1] if logits.dim() == 2 and logits.shape[1] > 1 else 0
    return TeacherProbe(net, targets, classifier, classes, studio.inputs.preprocessing.layout)
