"""Opening the float model: everything that trains, inspects or synthesizes begins here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from dfqonnx.config.commands import Device, RunConfig
from dfqonnx.config.recipe import Recipe, check_needs
from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.convert.shape_check import check_shapes
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths
from dfqonnx.data.guess_input_format import InputFormatGuess
from dfqonnx.distill.losses import is_classification
from dfqonnx.distill.schedule import expect_kl
from dfqonnx.errors import EnvironmentProblem, UnsupportedModel
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.graph.trainable_region import select_training_outputs
from dfqonnx.synthesis.budget import TeacherCost, measure_cost
from dfqonnx.synthesis.fit_inputs import fit_inputs
from dfqonnx.workflows.executable import check_executable
from dfqonnx.workflows.resolve_inputs import find_available_needs, resolve_inputs


@dataclass(frozen=True)
class Teacher:
    """The float model of a run."""

    model: NormalizedModel  # truncated in front of what cannot be trained
    program: Program
    inputs: InputFormat
    inputs_guessed: bool = False  # neither the user nor the file said so

    @cached_property
    def cost(self) -> TeacherCost:
        """What one image costs; one passes the network."""
        return measure_cost(self.program, self.inputs.shape)

    @cached_property
    @torch.no_grad()
    def has_classes(self) -> bool:
        """Whether the network puts out scores of classes; one blank input passes it."""
        blank = torch.zeros(1, *self.inputs.shape)
        return is_classification(ProgramModule(self.program)(blank)[0])

    def expect_divergence(self, bits: BitWidths) -> float | None:
        """Return how far an untrained student is off as a rule, in nats; None without classes."""
        if not self.has_classes:
            return None
        grouped = (int(step.attributes.get("group", 1)) > 1 for step in self.program.steps)
        return expect_kl(bits, depthwise=any(grouped))


def open_teacher(config: RunConfig, context: RunContext) -> Teacher:
    """Open the float model of a run; check that it can be trained, executed, and serve the recipe.

    Raises:
        UsageError: the file cannot be read, or `preprocess` or the recipe does not fit it.
        UnsupportedModel: it cannot be trained; names every node that is in the way.
    """
    model, program = open_program(
        config.model, recipe=config.recipe, image_size=config.image_size, given=config.inputs
    )
    return add_inputs(model, program, preprocess=config.preprocess, context=context)


def add_inputs(
    model: NormalizedModel,
    program: Program,
    *,
    preprocess: Preprocessing | None,
    context: RunContext,
) -> Teacher:
    """Return what `open_program` opened as a teacher; see `resolve_inputs` for `preprocess`."""
    found = resolve_inputs(
        preprocess,
        model,
        metadata=model.source.metadata,
        seed=context.seed,
        progress=context.progress,
        refine=partial(_refine, model, program, context),
    )
    return Teacher(model, program, found.format, found.guessed)


def _refine(
    model: NormalizedModel, program: Program, context: RunContext, guess: InputFormatGuess
) -> InputFormatGuess:
    """Return a guess that comes nearer to the statistics of a network, where there is one."""
    guessed = InputFormat(guess.preprocessing, model.input_shape)
    found = fit_inputs(
        program, model.statistics, guessed, open_axes=model.open_axes, context=context
    )
    if found is None:
        return guess
    kind = (
        "procedural images" if found.inputs.is_image else "structured fields, which are no images,"
    )
    return InputFormatGuess(
        found.inputs.preprocessing,
        f"with it {kind} come closest to the BatchNorm statistics ({found.divergence:.3f})",
        certain=False,
    )


def open_program(
    path: Path,
    *,
    recipe: Recipe | None = None,
    image_size: tuple[int, ...] | None = None,
    given: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[NormalizedModel, Program]:
    """Return the graph and the program of a float model; see `open_teacher`.

    `given` are values of inputs that are no image, by name.
    """
    model = truncate_at_unsupported(open_model(path, image_size=image_size, given=given))
    model, program = _truncate_at_misfits(model, to_program(model))
    if recipe is not None:
        check_needs(recipe, path, available=find_available_needs(model))
    check_executable(path, model)
    return model, program


def _truncate_at_misfits(
    model: NormalizedModel, program: Program
) -> tuple[NormalizedModel, Program]:
    """Return both with nodes left out that fit only the batch that the file is fixed to.

    Raises:
        UnsupportedModel: a node does not accept what reaches it.
    """
    while True:
        try:
            check_shapes(program, model.input_shape)
        except UnsupportedModel as error:
            node, batch = error.offenses[0], model.contract.batch
            if batch is None or node.node in model.unsupported:
                raise
            reason = f"it fits a batch of {batch} only ({node.reason})"
            model = select_training_outputs(model, {node.node: reason})
            program = to_program(model)
        else:
            return model, program


def choose_device(wanted: Device) -> str:
    """Return the device of torch, `cpu` or `cuda`.

    Raises:
        EnvironmentProblem: CUDA was asked for and is not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise EnvironmentProblem(
            "--device cuda: torch finds no CUDA device; check `dfqonnx doctor`, or use --device cpu"
        )
    return "cuda" if there and wanted != "cpu" else "cpu"
