"""What is told of a run before it begins is what the run then does: its steps, batches, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from dfqonnx.config.request import run_request
from dfqonnx.core.context import RunContext
from dfqonnx.core.cost_model import CONSTANTS
from dfqonnx.core.run_counts import RunCounts
from dfqonnx.distill import distill
from dfqonnx.workflows import run as run_workflow
from dfqonnx.workflows import stage_seconds
from dfqonnx.workflows.stage_seconds import count_run, time_stages
from dfqonnx.workflows.teacher import Teacher
from tests.cli.networks import SMALL, WEIGHTS, model_from

PICTURE = """<ir_version: 8, opset_import: ["": 17]>
picture (float[N,3,8,8] x) => (float[N,2,8,8] y)
{
    a = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)
    r = Relu(a)
    d = Conv<kernel_shape=[1,1]>(r, u, t)
    s = Relu(d)
    y = Conv<kernel_shape=[1,1]>(s, v, c)
}"""
PICTURE_WEIGHTS = {
    "w": (8, 3, 3, 3), "b": (8,), "u": (4, 8, 1, 1), "t": (4,), "v": (2, 4, 1, 1), "c": (2,),
}  # fmt: skip
RECIPE = """about: few images
synthesis: {source: dead-leaves, images: 64}
distillation: {gptq_damping: [0.1], calibration_images: 24, holdout_images: 8}
"""


class Stop(Exception):
    """Raised where training would begin."""


def prepare(
    text: str, weights: dict[str, tuple[int, ...]], bits: str, folder: Path, recipe: str = RECIPE
) -> tuple[Any, Teacher, Any]:
    """Return the request of a run, its teacher and its plan."""
    onnx.save(model_from(text, **weights), folder / "net.onnx")
    (folder / "recipe.yaml").write_text(recipe)
    config = run_request(
        folder / "net.onnx", bits, preprocess="zero-one", image_size=None, eval_data=None,
        inputs=(), images=None, recipe=str(folder / "recipe.yaml"), scale=None, gates=[],
        strict=False, out=folder / "out", seed=0, budget=None, strict_ends=None,
        weight_storage="auto", device="cpu", target="onnxruntime-cpu",
    )  # fmt: skip
    context = RunContext()
    teacher = run_workflow.open_teacher(config, context)
    return config, teacher, run_workflow.plan_quantizers(config, teacher, context.progress)


def counts(text: str, weights: dict[str, tuple[int, ...]], bits: str, folder: Path) -> RunCounts:
    config, teacher, plan = prepare(text, weights, bits, folder)
    return count_run(config, teacher, plan, RunContext())


@pytest.mark.parametrize("work", [2e9, 4e11])
@pytest.mark.parametrize(
    ("text", "weights", "bits", "least_images", "is_held"),
    [
        (SMALL, WEIGHTS, "w4a4", 0, False),
        (SMALL, WEIGHTS, "w3a6", 0, False),
        (SMALL, WEIGHTS, "w3a6", 10**9, True),
        (PICTURE, PICTURE_WEIGHTS, "w4a8", 0, True),
        (PICTURE, PICTURE_WEIGHTS, "w4a4", 0, False),
    ],
)
def test_the_steps_that_are_told_are_those_of_the_run(
    text: str, weights: dict[str, tuple[int, ...]], bits: str, least_images: int, is_held: bool,
    work: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("dfqonnx.distill.schedule.WORK", work)
    monkeypatch.setattr("dfqonnx.distill.schedule.LEAST_IMAGES", least_images)
    seen: dict[str, Any] = {}

    def train(student: Any, teacher: Any, pool: Any, state: Any, *, plan: Any, **_: Any) -> None:
        seen.update(steps=state.total_steps, config=plan.config, held_out=len(pool.held_out))
        seen["kl"] = state.before.kl
        raise Stop

    monkeypatch.setattr(distill, "_train", train)
    config, teacher, plan = prepare(text, weights, bits, tmp_path)
    with pytest.raises(Stop):
        run_workflow.run(config)
    if seen["kl"] is not None:  # a classifier trains as it says, which a count can only expect
        monkeypatch.setattr(Teacher, "expect_divergence", lambda *_: seen["kl"])
    told = count_run(config, teacher, plan, RunContext())
    assert told.steps == told.possible_steps == seen["steps"]
    assert told.batch == seen["config"].batch_size
    assert told.held_out == seen["held_out"]
    assert (seen["config"].optimizer.rounding == "held") is is_held


def test_eight_bits_may_need_training_and_the_outline_says_how_much(tmp_path: Path) -> None:
    found = counts(SMALL, WEIGHTS, "w8a8", tmp_path)
    assert found.steps == 0
    assert found.possible_steps == 8000, "the most that anything is trained: the network is tiny"
    narrow = counts(SMALL, WEIGHTS, "w4a8", tmp_path)
    assert narrow.steps == narrow.possible_steps > 0


def test_a_recipe_that_says_the_steps_is_believed(tmp_path: Path) -> None:
    recipe = RECIPE.replace("{gptq", "{steps: 7, gptq")
    config, teacher, plan = prepare(SMALL, WEIGHTS, "w8a8", tmp_path, recipe)
    found = count_run(config, teacher, plan, RunContext())
    assert (found.steps, found.possible_steps) == (7, 7)


def test_images_that_are_painted_are_not_optimized(tmp_path: Path) -> None:
    assert counts(SMALL, WEIGHTS, "w4a4", tmp_path).synthesis.steps == 0
    config, teacher, plan = prepare(
        SMALL, WEIGHTS, "w4a4", tmp_path, RECIPE.replace("dead-leaves", "auto")
    )
    assert count_run(config, teacher, plan, RunContext()).synthesis.steps > 0


def test_seconds_grow_with_what_a_pass_takes_and_with_images_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, teacher, plan = prepare(SMALL, WEIGHTS, "w4a4", tmp_path)
    found = count_run(config, teacher, plan, RunContext())
    times = []
    for once, labeled in ((1e-3, 0), (2e-3, 0), (1e-3, 500)):
        monkeypatch.setattr(stage_seconds, "measure_speed", lambda: 1.0)
        monkeypatch.setattr(stage_seconds, "measure_pass", lambda *_, once=once: once)
        times.append(time_stages(found, teacher, labeled=labeled, context=RunContext()))
    first, slower, labeled = times
    assert slower.distill - first.distill == pytest.approx(
        found.steps * found.batch * CONSTANTS.step_pass * 1e-3
    )
    passes = CONSTANTS.evaluate_pass * 2 * 500
    assert labeled.evaluate - first.evaluate == pytest.approx(passes * 1e-3)
    assert slower.initialize > first.initialize > 0
