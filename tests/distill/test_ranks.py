"""A whole distillation on two ranks ends as that of one process does; images are shared out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.ranks import Ranks, claims_message, read_place
from dfqonnx.core.stage_keeper import Entry, StageKeeper
from dfqonnx.distill.distill import distill
from dfqonnx.distill.distilled import Distilled
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.errors import UsageError
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.rank_shares import check_source, join_images, share_context, share_plan
from dfqonnx.workflows.rank_keeper import share_keeper
from tests.distill.conftest import INPUTS, synthetic
from tests.ranks import rank_threads

Tiny = tuple[Program, QuantizationPlan]
NOISE = 0.1  # of the divergence: codes that float noise takes to the other side of a rounding
CONFIG = DistillationConfig(
    steps=60, batch_size=32, gptq_damping=(), holdout_images=64, calibration_images=64
)


def distilled(
    tiny: Tiny, images: np.ndarray, ranks: Ranks | None = None
) -> tuple[Distilled, Student]:
    context = RunContext() if ranks is None else RunContext(ranks=ranks)
    student = Student(*tiny)
    network = EqualizedNetwork(program=tiny[0], plan=tiny[1])
    found = distill(
        network, student, synthetic(images), config=CONFIG, equalization=EqualizationConfig(),
        inputs=INPUTS, context=context,
    )  # fmt: skip
    return found, student


def test_two_ranks_end_where_one_process_does(tiny: Tiny, images: np.ndarray) -> None:
    one, _ = distilled(tiny, images)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda ranks: distilled(tiny, images, ranks), rank_threads(2)))
    states = [student.save_state() for _, student in results]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    two = results[0][0]
    assert two.steps == one.steps == CONFIG.steps
    assert one.agreement_after.kl is not None
    assert two.agreement_after.kl == pytest.approx(one.agreement_after.kl, rel=NOISE)
    assert one.agreement_after.kl < 0.9 * (one.agreement_before.kl or 0.0), "it learned something"


def test_shares_of_images_add_up_and_those_guided_stand_first() -> None:
    plan = SynthesisPlan(images=11, optimized=5, batch=4, first_batch_steps=3, batch_steps=2)
    ranks = rank_threads(3)
    shares = [share_plan(plan, each) for each in ranks]
    assert sum(share.images for share in shares) == 11
    assert sum(share.optimized for share in shares) == 5
    assert len({share_context(RunContext(ranks=each)).seed for each in ranks}) == 3

    def join(each: Ranks) -> tuple[list[int], int]:
        share = shares[each.rank]
        own = torch.tensor([1] * share.optimized + [0] * (share.images - share.optimized))
        joined, guided = join_images(own, share.optimized, each)
        return joined.tolist(), guided

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(join, ranks)) == [([1] * 5 + [0] * 6, 5)] * 3


def test_a_generator_is_refused_where_there_are_several_ranks() -> None:
    first, _ = rank_threads(2)
    with pytest.raises(UsageError, match="without torchrun"):
        check_source("generator", first)
    check_source("optimized", first)


class OneEntry(StageKeeper):
    def __init__(self, entry: Entry | None) -> None:
        self.entry, self.kept = entry, 0

    def find(self, stage, build):  # type: ignore[no-untyped-def]
        return None if self.entry is None else build(self.entry)

    def keep(self, stage, entry, *, step=0, steps=0):  # type: ignore[no-untyped-def]
        self.kept += 1


def test_rank_0_keeps_and_all_find_the_same() -> None:
    ranks, entry = rank_threads(2), Entry(facts={"steps": 7})
    own = [OneEntry(entry), OneEntry(None)]
    keepers = [share_keeper(*pair) for pair in zip(own, ranks, strict=True)]

    def find(keeper: StageKeeper) -> object:
        keeper.keep("distill", entry)
        return keeper.find("distill", lambda found: found.facts["steps"])

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(find, keepers)) == [7, 7]
        damaged = list(pool.map(lambda each: each.find("x", lambda e: e.facts["none"]), keepers))
    assert damaged == [None, None]
    assert [each.kept for each in own] == [1, 0]


def test_the_place_is_that_of_torchrun_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    place = read_place(job)
    assert place is not None
    assert (place.rank, place.count, place.local_rank, place.local_count) == (1, 2, 1, 2)
    for odd in (
        {},
        job | {"WORLD_SIZE": "1"},
        job | {"RANK": "x"},
        {"RANK": "0", "WORLD_SIZE": "2"},
    ):
        assert read_place(odd) is None
    assert claims_message(2)
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert not claims_message(2), "rank 0 finds the same"
    assert claims_message(4), "this machine's own problem"
