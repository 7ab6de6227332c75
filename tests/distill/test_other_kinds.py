"""Which networks see text and fields beside their own images, and what that changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization import BitWidths
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.distill import make_pool
from dfqonnx.distill.divergence_guard import DivergenceGuard, paint_guard_images
from dfqonnx.distill.other_kinds import FEWEST, SHARE, make_other_kinds, needs_other_kinds
from dfqonnx.fakequant.capture import capture
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from tests.distill.conftest import INPUTS, network, synthetic

W4A8 = BitWidths(4, 8)
Tiny = tuple[Program, QuantizationPlan]


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def teacher(tmp_path_factory: pytest.TempPathFactory, *, classes: bool) -> ProgramModule:
    """Return the tiny classifier, or what stands in front of its Flatten."""
    model = network()
    if not classes:
        del model.graph.node[5:]
        model.graph.output[0].CopyFrom(
            onnx.helper.make_tensor_value_info("r1", onnx.TensorProto.FLOAT, ["n", 8, 4, 4])
        )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(model, path)
    return ProgramModule(to_program(normalize(load(path))))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> ProgramModule:
    return teacher(tmp_path_factory, classes=False)


def test_a_network_that_says_nothing_of_its_images_needs_other_kinds(maps: ProgramModule) -> None:
    images = synthetic(pixels(4))
    assert needs_other_kinds(images, maps, INPUTS, W4A8, device="cpu")
    assert not needs_other_kinds(images, maps, INPUTS, BitWidths(8, 8), device="cpu")
    known = replace(images, divergence=0.1)  # BatchNormalization is there
    assert not needs_other_kinds(known, maps, INPUTS, W4A8, device="cpu")
    own = images.joined_by(pixels(2))  # the user's images are there
    assert not needs_other_kinds(own, maps, INPUTS, W4A8, device="cpu")


def test_classes_say_enough(tmp_path_factory: pytest.TempPathFactory) -> None:
    classifier = teacher(tmp_path_factory, classes=True)
    assert not needs_other_kinds(synthetic(pixels(4)), classifier, INPUTS, W4A8, device="cpu")


@pytest.mark.parametrize("count", [6, 600])
def test_half_of_the_other_kinds_is_text_and_half_fields(count: int) -> None:
    made = make_other_kinds(count, (8, 8, 3), 0)
    assert made.dtype == np.uint8
    assert made.shape == (max(FEWEST, count // SHARE), 8, 8, 3)
    assert np.array_equal(made, make_other_kinds(count, (8, 8, 3), 0))
    assert not np.array_equal(made, make_other_kinds(count, (8, 8, 3), 1))


def test_other_kinds_are_trained_on_and_never_held_out() -> None:
    images, context = synthetic(pixels(200)), RunContext()
    plain = make_pool(images, INPUTS, holdout=64, mixed=False, context=context)
    mixed = make_pool(images, INPUTS, holdout=64, mixed=True, context=context)
    assert len(mixed.train) == len(plain.train) + 200 // SHARE
    assert len(mixed.fitting) == len(plain.fitting) == len(plain.train)
    assert len(mixed.held_out) == len(plain.held_out)
    assert max(mixed.held_out_indices) < 200
    own = {image.tobytes() for image in images.pixels}
    assert all(image.numpy().tobytes() in own for image in mixed.fitting)  # for ranges and GPTQ
    first = next(mixed.draw(64, torch.Generator().manual_seed(0)))
    others = sum(image.numpy().tobytes() not in own for image in first)
    assert others == 32  # a kind of two, in equal shares


def test_candidates_are_chosen_on_other_kinds_that_are_not_trained_on() -> None:
    images, context = synthetic(pixels(200)), RunContext()
    plain = make_pool(images, INPUTS, holdout=64, mixed=False, context=context)
    mixed = make_pool(images, INPUTS, holdout=64, mixed=True, context=context)
    assert len(torch.cat(list(plain.choosing_batches(16)))) == len(plain.held_out)
    chosen = torch.cat(list(mixed.choosing_batches(16)))
    assert len(chosen) == len(mixed.held_out) + FEWEST
    trained = {image.numpy().tobytes() for image in mixed.train}
    assert not any(image.numpy().tobytes() in trained for image in mixed.unlike)


def test_the_guard_sees_other_kinds_beside_dead_leaves(tiny: Tiny) -> None:
    program, _ = tiny
    student, net = Student(*tiny), ProgramModule(program)
    context = RunContext()
    pool = make_pool(synthetic(pixels(200)), INPUTS, holdout=64, mixed=True, context=context)
    seen: list[int] = []
    with capture([student], before=lambda _, values: seen.append(len(values[0]))):
        painted = paint_guard_images(pool, 8, 0)
        DivergenceGuard(student, net, pool, images=painted, batch_size=64)
    assert sum(seen) == 8 + FEWEST
