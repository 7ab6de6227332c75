"""The gradients of a step do not depend on the parts in which its images pass, nor on the ranks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.config.loss_terms import STUDENT_LOSSES, LossTerm
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.image_pool import Batch, ImagePool
from dfqonnx.distill.layer_outputs import layer_names
from dfqonnx.distill.step_gradients import StepGradients, share_of_rank, split_batch
from dfqonnx.distill.trainer import Replica
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS
from tests.ranks import rank_threads

Tiny = tuple[Program, QuantizationPlan]
FLOAT, CANCELLED = 1e-5, 1e-8  # of the largest; of scales: differences of sums of 1e3 float32
CONFIG = DistillationConfig(
    losses=tuple(LossTerm(name, 1.0) for name in sorted(STUDENT_LOSSES)),
    optimizer=OptimizerConfig(rounding="ste"),
)


def a_batch(images: np.ndarray, count: int) -> Batch:
    return Batch(INPUTS.to_tensor(torch.from_numpy(images[:count])))


def replica_of(tiny: Tiny, images: np.ndarray, batch: Batch, **given: object) -> Replica:
    torch.manual_seed(0)
    student = Student(*tiny)
    taps = dict.fromkeys([*student.features, *layer_names(student)])
    teacher = ProgramModule(tiny[0], taps=tuple(taps), channels_last=True)
    pool = ImagePool(images, INPUTS, holdout=0, context=RunContext())
    student.initialize(pool.batches(pool.train[:64], 64))
    return Replica(student, teacher, CONFIG, batches=iter([batch] * 9), sample=(), **given)  # type: ignore[arg-type]


def gradients_of(replica: Replica, batch: Batch) -> tuple[float, list[Tensor | None]]:
    value = replica.gradients.compute(batch)
    return value, [parameter.grad for parameter in parameters_of(replica)]


def parameters_of(replica: Replica) -> list[Tensor]:
    groups = [group for optimizer in replica.optimizers for group in optimizer.param_groups]
    return [parameter for group in groups for parameter in group["params"]]


def assert_equal_gradients(found: list[Tensor | None], wanted: list[Tensor | None]) -> None:
    assert [each is None for each in found] == [each is None for each in wanted]
    pairs = [(a, b) for a, b in zip(found, wanted, strict=True) if a is not None and b is not None]
    assert pairs
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0, atol=FLOAT * float(b.abs().max()) + CANCELLED)


@pytest.mark.parametrize("part", [5, 7, 16, 23])
def test_parts_give_the_gradients_of_the_whole_step_with_every_loss(
    tiny: Tiny, images: np.ndarray, part: int
) -> None:
    batch = a_batch(images, 24)
    value, wanted = gradients_of(replica_of(tiny, images, batch), batch)
    in_parts, found = gradients_of(replica_of(tiny, images, batch, part=part), batch)
    assert in_parts == pytest.approx(value, rel=1e-5)
    assert_equal_gradients(found, wanted)


@pytest.mark.parametrize(
    ("count", "images_of_step", "part"), [(2, 24, None), (3, 25, 4), (3, 2, 2)]
)
def test_ranks_give_the_gradients_of_one_process(
    tiny: Tiny, images: np.ndarray, count: int, images_of_step: int, part: int | None
) -> None:
    batch = a_batch(images, images_of_step)
    value, wanted = gradients_of(replica_of(tiny, images, batch), batch)
    replicas = [
        replica_of(tiny, images, batch, part=part, context=RunContext(ranks=ranks))
        for ranks in rank_threads(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        results = list(pool.map(lambda each: gradients_of(each, batch), replicas))
    for found_value, found in results:
        assert found_value == pytest.approx(value, rel=1e-5)
        assert_equal_gradients(found, wanted)


def test_every_image_is_one_ranks(images: np.ndarray) -> None:
    batch = Batch(torch.arange(7.0), torch.arange(7))
    shares = [share_of_rank(batch, rank, 3) for rank in range(3)]
    assert sorted(x for share, _ in shares for x in share.x.tolist()) == list(range(7))
    assert all(torch.equal(share.x.long(), share.labels) for share, _ in shares)
    assert {weight for _, weight in shares} == {1 / 7}
    assert [len(part.x) for part in split_batch(batch, 3)] == [3, 3, 1]


def failing_above(images: int, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss on a device whose memory holds the graph of so many images."""

    def limited(batch: Batch, variances: object, answers: object) -> Tensor:
        if len(batch.x) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(batch, variances, answers)

    return limited


def limited_gradients(replica: Replica, images: int, context: RunContext) -> StepGradients:
    return StepGradients(
        failing_above(images, replica._loss),
        parameters_of(replica),
        replica._teacher,
        part=None,
        context=context,
    )


def test_a_gpu_without_memory_passes_fewer_images_and_the_step_is_the_same(
    tiny: Tiny, images: np.ndarray
) -> None:
    batch, notes = a_batch(images, 24), []
    _, wanted = gradients_of(replica_of(tiny, images, batch), batch)
    replica = replica_of(tiny, images, batch)
    context = RunContext()
    context = replace(context, progress=type("P", (), {"note": staticmethod(notes.append)})())
    replica.gradients = limited_gradients(replica, 5, context)
    _, found = gradients_of(replica, batch)
    assert_equal_gradients(found, wanted)
    assert replica.gradients.part == 3
    assert len(notes) == 3
    gradients_of(replica, batch)
    assert len(notes) == 3, "what fits is remembered"


def test_a_gpu_that_holds_no_image_at_all_is_an_error_and_no_endless_loop(
    tiny: Tiny, images: np.ndarray
) -> None:
    batch = a_batch(images, 4)
    replica = replica_of(tiny, images, batch)
    replica.gradients = limited_gradients(replica, 0, RunContext())
    with pytest.raises(EnvironmentProblem, match="one image"):
        replica.gradients.compute(batch)


def test_a_loss_that_is_not_finite_leaves_no_gradient(tiny: Tiny, images: np.ndarray) -> None:
    batch = a_batch(images, 8)
    for part in (None, 3):
        replica = replica_of(tiny, images, batch, part=part)
        broken = Batch(batch.x * float("nan"))
        value, found = gradients_of(replica, broken)
        assert not np.isfinite(value)
        assert all(each is None for each in found)
