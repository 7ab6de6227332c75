"""Images from generators: built, trained against the teacher, then drawn from.

Each of `generator.iterations` steps lowers the recipe's losses on a fresh batch. With an opponent
`float` a network of the teacher's form learns beside them, one step each in turn (DFQF). With fixed
opponents given, the terms that need students are measured against these; otherwise these terms are
left out here and begin when the student trains. The first `warmup_iterations` steps leave them out
in any case. Without statistics those of dead leaves stand in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.bn_statistics import IMAGES, BatchNormTargets, surrogate_statistics
from dfqonnx.synthesis.budget import max_batch_size, measure_cost
from dfqonnx.synthesis.generators.architecture import (
    GeneratorShape,
    OutputToPixels,
    build,
    load_checkpoint,
)
from dfqonnx.synthesis.generators.float_adversary import FloatAdversary
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
def generate(context: SynthesisContext) -> OnlineGenerators:
    """Return trained generators; iterating yields their images.

    Raises:
        UsageError: the model reads no images, or a checkpoint does not fit.
    """
    generators, probe = build_generators(context)
    if not context.config.generator.checkpoint:
        _train(generators, probe, context)
    return generators


def build_generators(context: SynthesisContext) -> tuple[OnlineGenerators, TeacherProbe]:
    """Return generators before their training, and the teacher as they see it.

    Raises:
        UsageError: the model reads no images, or a checkpoint does not fit.
    """
    if not context.inputs.is_image:
        raise UsageError(
            "synthesis.source: `generator` makes images, and this model reads none; use"
            " --recipe default"
        )
    config, probe = context.config.generator, _probe_teacher(context)
    height, width, channels = context.inputs.image_size
    shape = GeneratorShape(
        height=height,
        width=width,
        channels=channels,
        latent=config.latent,
        classes=probe.classes if config.conditional else 0,
        width_multiplier=config.width_multiplier,
    )
    to_pixels = OutputToPixels(context.inputs, channels)
    networks = [
        build(config.architecture, shape, generator=context.generator)
        for _ in range(context.config.co_training.generators)
    ]
    if config.checkpoint:
        load_checkpoint(config.checkpoint, networks)
    trainers = [
        GeneratorTrainer(network, to_pixels, probe, context=context) for network in networks
    ]
    return OnlineGenerators(trainers, batch=_batch_size(context), context=context), probe


def _batch_size(context: SynthesisContext) -> int:
    """Return the images of a step: those of the recipe, or as many as memory holds."""
    wanted = context.config.generator.batch_size
    shape = context.inputs.shape
    fit = ROOM * max_batch_size(
        measure_cost(context.teacher, shape), shape, context.run.memory.work
    )
    if context.device.type == "cuda" or fit >= wanted:
        return wanted
    context.run.progress.note(
        f"A generator step takes {fit} instead of {wanted} images, to fit into memory."
    )
    return fit


def _train(generators: OnlineGenerators, probe: TeacherProbe, context: SynthesisContext) -> None:
    config, co_training = context.config.generator, context.config.co_training
    adversary = None
    if co_training.opponent == "float" and probe.classes:
        adversary = FloatAdversary(context)
    fixed: Sequence[Opponent] = context.opponents if co_training.opponent == "student" else ()
    fixed = fixed if adversary is None else (adversary,)
    started, budget = time.perf_counter(), context.run.budget_seconds
    context.run.progress.start("synthesize", max(1, config.iterations))
    # with students the rate falls in co-training instead
    schedule = config.lr_schedule if co_training.student_steps == 0 else "constant"
    for step in range(config.iterations):
        done = step / config.iterations
        opponents = fixed if step >= config.warmup_iterations else ()
        rate = lr_factor(done, schedule, milestones=config.milestones)
        figures = generators.step(opponents, rate=rate)
        if adversary is not None:
            x = generators.draw(generators.batch, context.generator).x
            with torch.no_grad():
                logits = probe.net(x)[0]
            figures["opponent"] = adversary.step(x, logits, done=done)
        context.run.progress.advance(1, **figures)
        if budget is not None and time.perf_counter() - started > budget:
            context.run.progress.note(
                f"The generator stopped after {step + 1} steps, because its time was used up."
            )
            break


def find_classifier_input(teacher: Program) -> str | None:
    """Return the name of the value (B, D) that a Gemm makes the logits of; None without such a one.

    A Gemm whose first input is transposed, or whose weight is computed, is none.
    """
    for step in teacher.steps:
        if teacher.logits not in step.outputs or step.op != "Gemm":
            continue
        features, weight = step.inputs[:2]
        plain = weight in teacher.tensors and not step.attributes.get("transA")
        return features if plain else None
    return None


def _probe_teacher(context: SynthesisContext) -> TeacherProbe:
    statistics = context.statistics
    if not statistics:
        statistics = surrogate_statistics(
            context.teacher,
            sample_dead_leaves(IMAGES, context.inputs.image_size, context.generator),
            context.inputs,
            batch=context.plan.batch,
            context=context.run,
        )
    targets = BatchNormTargets(statistics, context.device)
    features = find_classifier_input(context.teacher)
    taps = dict.fromkeys([*targets.mean, *([] if features is None else [features])])
    net = ProgramModule(context.teacher, taps=tuple(taps), channels_last=True).to(context.device)
    with torch.no_grad():
        logits, _ = net(torch.zeros(1, *context.inputs.shape, device=context.device))
    classes = logits.shape[1] if logits.dim() == 2 and logits.shape[1] > 1 else 0
    return TeacherProbe(net, targets, features, classes)
