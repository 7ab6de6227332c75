"""The cost model: its closed forms, and what it says of runs that were measured."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from dfqonnx.core.cost_model import (
    CONSTANTS,
    MachineCost,
    predict_machine,
    predict_stages,
    range_passes,
    solve_seconds,
)
from dfqonnx.core.memory_model import bound_memory, predict_memory
from dfqonnx.core.run_counts import LayerShape, RunCounts

RUNS = Path(__file__).parents[2] / "pipelines/results/cost_runs.jsonl"
LINES = [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()]
COUNTS = RunCounts.from_json(LINES[0]["counts"])
FASTER = MachineCost(pass_seconds=1e-3, optimize_seconds=3e-3, speed=2.0)
ONE = dataclasses.replace(FASTER, speed=1.0)


def test_counts_survive_json() -> None:
    assert RunCounts.from_json(json.loads(json.dumps(COUNTS.to_json()))) == COUNTS


def test_seconds_are_linear_in_steps_and_in_the_batch() -> None:
    def distill(**changed: int) -> float:
        return predict_stages(dataclasses.replace(COUNTS, **changed), ONE).distill

    step = distill(steps=101) - distill(steps=100)
    assert distill(steps=1100) - distill(steps=100) == pytest.approx(1000 * step)
    wider = distill(steps=100, batch=COUNTS.batch + 1) - distill(steps=100)
    assert wider == pytest.approx(100 * CONSTANTS.step_pass * ONE.pass_seconds)
    assert distill(steps=0) == 0


def test_devices_share_images_and_steps_and_nothing_else() -> None:
    one, four = (predict_stages(COUNTS, ONE, devices=devices) for devices in (1, 4))
    assert (one.open, one.initialize, one.evaluate) == (four.open, four.initialize, four.evaluate)
    passes = COUNTS.steps * CONSTANTS.step_pass * COUNTS.batch * ONE.pass_seconds
    assert one.distill - four.distill == pytest.approx(0.75 * passes)
    optimized = COUNTS.synthesis.steps * COUNTS.synthesis.batch * ONE.optimize_seconds
    assert one.synthesize - four.synthesize == pytest.approx(0.75 * optimized)


def test_a_pass_of_a_network_is_linear_in_its_size_and_in_the_speed() -> None:
    size = COUNTS.size
    once = predict_machine(size).pass_seconds
    doubled = dataclasses.replace(
        size, multiply_adds=2 * size.multiply_adds, values=2 * size.values, nodes=2 * size.nodes
    )
    assert predict_machine(doubled).pass_seconds == pytest.approx(2 * once)
    assert predict_machine(size, 4.0).pass_seconds == pytest.approx(once / 4)
    assert predict_stages(COUNTS, FASTER).total < predict_stages(COUNTS, ONE).total


def test_gptq_takes_more_than_the_square_of_what_an_output_reads() -> None:
    narrow, wide = (solve_seconds(LayerShape(64, m, 1, False)) for m in (1000, 2000))
    assert 2.5 < wide / narrow < 8
    assert solve_seconds(LayerShape(64, 1000, 1, True)) > narrow


def test_the_largest_stage_decides_about_memory() -> None:
    found = predict_memory(COUNTS)
    assert found.peak == found.held + max(
        found.synthesize, found.initialize, found.distill, found.evaluate
    )
    wider = predict_memory(dataclasses.replace(COUNTS, part=2 * COUNTS.part))
    assert wider.distill == pytest.approx(2 * found.distill)
    assert range_passes(COUNTS) > 3 * COUNTS.calibration


@pytest.mark.parametrize("line", LINES, ids=[f"{each['model']}-{each['bits']}" for each in LINES])
def test_the_bound_holds_without_the_network(line: dict[str, object]) -> None:
    bound = bound_memory(line["counts"]["size"]["file_bytes"])
    assert max(line["peak_mib"].values()) * 2**20 < bound < 4 * 2**30


@pytest.mark.parametrize("line", LINES, ids=[f"{each['model']}-{each['bits']}" for each in LINES])
def test_predictions_are_within_a_factor_of_what_was_measured(line: dict[str, object]) -> None:
    counts = RunCounts.from_json(line["counts"])
    mean = math.exp(sum(math.log(each["speed"]) for each in LINES) / len(LINES))
    machine = predict_machine(counts.size, line["speed"] / mean)
    measured = sum(line["seconds"].values())
    assert measured / 1.5 < predict_stages(counts, machine).total < 1.5 * measured
    peak = max(line["peak_mib"].values()) * 2**20
    assert peak / 1.5 < predict_memory(counts).peak < 1.5 * peak
