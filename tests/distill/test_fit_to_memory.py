"""A run takes smaller batches, and then fewer images, where its memory asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.core.memory_model import predict_memory
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.workflows import fit_to_memory as module
from dfqonnx.workflows.fit_to_memory import SPARE, fit_to_memory, memory_of_run
from dfqonnx.workflows.stage_seconds import count_run
from tests.distill.test_stage_seconds import RECIPE, prepare
from tests.ranks import rank_threads

LARGE = """<ir_version: 8, opset_import: ["": 17]>
large (float[N,3,96,96] x) => (float[N,2,96,96] y)
{
    a = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)
    r = Relu(a)
    d = Conv<kernel_shape=[1,1]>(r, u, t)
    s = Relu(d)
    y = Conv<kernel_shape=[1,1]>(s, v, c)
}"""
WEIGHTS = {
    "w": (32, 3, 3, 3), "b": (32,), "u": (32, 32, 1, 1), "t": (32,), "v": (2, 32, 1, 1), "c": (2,),
}  # fmt: skip
MIB = 2**20
OPEN = RECIPE.replace("source: dead-leaves, images: 64", "source: dead-leaves")


def test_batches_shrink_before_images_and_the_step_keeps_its_size(tmp_path: Path) -> None:
    config, teacher, plan = prepare(LARGE, WEIGHTS, "w4a4", tmp_path, OPEN)
    found = {}
    for mib in (16_000, 1400, 1000, 760):
        context = fit_to_memory(replace(config, memory=mib * MIB), teacher, plan, RunContext())
        counts = count_run(config, teacher, plan, context)
        assert predict_memory(counts).peak <= mib * MIB
        found[mib] = context.memory, counts
    assert found[16_000][0] == MemoryShare()
    works = [memory.work for memory, _ in found.values()]
    assert works == sorted(works, reverse=True)
    assert works[1] < 1
    assert [memory.images for memory, _ in found.values()][:2] == [1.0] * 2
    assert len({counts.batch for _, counts in found.values()}) == 1
    assert found[1000][1].part < found[1000][1].batch
    assert found[760][1].all_images.images < found[1400][1].all_images.images


def test_what_cannot_fit_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    config, teacher, plan = prepare(LARGE, WEIGHTS, "w4a4", tmp_path, OPEN)
    with pytest.raises(UsageError, match=r"memory 300MiB: too little.* about \d+ MiB are needed"):
        fit_to_memory(replace(config, memory=300 * MIB), teacher, plan, RunContext())


def test_the_container_counts_where_nothing_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, teacher, plan = prepare(LARGE, WEIGHTS, "w4a4", tmp_path, OPEN)
    monkeypatch.setattr(module, "usable_memory", lambda: 300 * MIB)
    with pytest.raises(EnvironmentProblem, match="container leaves 300 MiB"):
        fit_to_memory(config, teacher, plan, RunContext())
    monkeypatch.setattr(module, "usable_memory", lambda: int(SPARE * 8192 * MIB))
    assert fit_to_memory(config, teacher, plan, RunContext()).memory == MemoryShare()
    first, _ = rank_threads(2)
    assert memory_of_run(config, RunContext(ranks=first)) == int(SPARE * 8192 * MIB) // 2
