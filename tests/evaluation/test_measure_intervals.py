"""Every measure's figure of inputs drawn anew is the measure of those inputs, repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from dfqonnx.data.label_types import ImageBoxes
from dfqonnx.evaluation.bootstrap import DRAWS, Floats
from dfqonnx.evaluation.heads.detections import Detections
from dfqonnx.evaluation.measures import add_intervals, text_measures
from dfqonnx.evaluation.measures.add_intervals import add_intervals as with_intervals
from dfqonnx.evaluation.measures.box_measures import average_precision
from dfqonnx.evaluation.measures.choose_tallies import MeasureOptions, OutputContext
from dfqonnx.evaluation.measures.mask_measures import OverlapCounts
from dfqonnx.evaluation.measures.measure_pair import PairMeasurement, group_rows
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.measures.value_measures import DistanceSums
from dfqonnx.evaluation.statistics import Interval, paired_drop, wilson_interval

RNG = np.random.default_rng(7)
WEIGHTS = RNG.multinomial(12, [1 / 12] * 12, 5).astype(np.float64)  # (5 draws, 12 inputs)


def repeat(each: Sequence[object], weights: Floats) -> list[object]:
    return [item for item, count in zip(each, weights, strict=True) for _ in range(int(count))]


def scene(crowds: bool = False) -> tuple[list[ImageBoxes], list[Detections]]:
    """Return true boxes and found ones, some of them on true ones, others nowhere near."""
    truth, found = [], []
    for _ in range(12):
        count = int(RNG.integers(0, 5))
        corner = RNG.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corner, corner + RNG.uniform(8, 30, (count, 2))], 1)
        classes = RNG.integers(0, 3, count)
        crowd = (RNG.uniform(size=count) < 0.2) & crowds
        truth.append(ImageBoxes(boxes, classes, crowd))
        near = np.concatenate([boxes + RNG.normal(0, 2, boxes.shape), RNG.uniform(0, 90, (6, 4))])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        kinds = np.concatenate([classes, RNG.integers(0, 4, 6)])
        found.append(Detections(near, RNG.uniform(0.1, 0.99, len(near)), kinds))
    return truth, found


@pytest.mark.parametrize("crowds", [False, True])
def test_average_precision_of_a_draw_is_pycocotools_on_repeated_images(crowds: bool) -> None:
    truth, found = scene(crowds)
    precision = average_precision(truth, found)
    ones = precision.draw(np.ones((1, 12)))[0]
    assert ones == pytest.approx([precision.map50, precision.map], abs=1e-9)
    drawn = precision.draw(WEIGHTS)
    for weights, row in zip(WEIGHTS, drawn, strict=True):
        expected = average_precision(repeat(truth, weights), repeat(found, weights))
        assert row == pytest.approx([expected.map50, expected.map], abs=1e-9)
    assert len({round(float(row[0]), 6) for row in drawn}) > 1


def test_draws_without_a_true_box_are_not_defined_and_without_a_found_one_are_0() -> None:
    truth, found = scene()
    single = [truth[k] if k == 0 else ImageBoxes(*(part[:0] for part in (
        truth[k].boxes, truth[k].classes, truth[k].crowd))) for k in range(12)]  # fmt: skip
    single[0] = ImageBoxes(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]))
    weights = np.ones((2, 12))
    weights[0, 0] = 0
    drawn = average_precision(single, found).draw(weights)
    assert np.isnan(drawn[0]).all()
    assert np.isfinite(drawn[1]).all()
    none = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))] * 12
    np.testing.assert_array_equal(average_precision(single, none).draw(weights), 0.0)
    assert np.isnan(average_precision([single[1]], found[:1]).draw(np.ones((1, 1)))).all()


def test_overlaps_of_a_draw_are_those_of_repeated_masks() -> None:
    truth, found = RNG.integers(-1, 4, (2, 12, 6, 5))
    truth[0] = 1
    counts = OverlapCounts()
    counts.add(truth, found)
    drawn = counts.figure()(WEIGHTS)
    for weights, value in zip(WEIGHTS, drawn, strict=True):
        again = OverlapCounts()
        again.add(np.stack(repeat(truth, weights)), np.stack(repeat(found, weights)))
        assert value == pytest.approx(again.mean(), abs=1e-12)


def test_distances_of_a_draw_are_those_of_repeated_values() -> None:
    first = RNG.normal(1e4, 1, (12, 3))
    second = first + RNG.normal(0, 0.5, first.shape)
    sums = DistanceSums()
    for start in range(0, 12, 5):
        sums.add(first[start : start + 5], second[start : start + 5])
    assert sums.spread == pytest.approx(first.std(), rel=1e-6)
    figures = sums.mean_distance(WEIGHTS), sums.correlation(WEIGHTS)
    for weights, distance, correlation in zip(WEIGHTS, *figures, strict=True):
        x, y = (np.stack(repeat(part, weights)).ravel() for part in (first, second))
        assert distance == pytest.approx(np.abs(x - y).mean(), rel=1e-9)
        assert correlation == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-6)


def test_characters_of_a_draw_are_those_of_repeated_lines() -> None:
    truth = ["".join(RNG.choice(list("abc"), RNG.integers(0, 6))) for _ in range(12)]
    texts = [each[:-1] + "x" if k % 3 else each for k, each in enumerate(truth)]
    figure: Callable[[Floats], Floats] = text_measures._characters_of_draws(texts, truth)
    for weights, value in zip(WEIGHTS, figure(WEIGHTS), strict=True):
        expected = text_measures.character_accuracy(repeat(texts, weights), repeat(truth, weights))
        assert value == pytest.approx(expected, abs=1e-12)
    assert np.isnan(text_measures._characters_of_draws([""], [""])(np.ones((1, 1)))).all()


def measure(**more: object) -> TaskMeasure:
    known = TaskMeasure(
        name="map50", task="boxes", truth="labels", teacher=0.5, student=0.4, n=30, meaning="m"
    )
    return replace(known, **more)


def test_the_drop_is_paired_and_turned_where_less_is_better() -> None:
    noise = RNG.normal(0, 0.1, DRAWS)  # what makes inputs hard for both
    own = RNG.normal(0, 0.001, DRAWS)
    found = with_intervals(measure(), 0.4 + noise, 0.5 + noise + own, is_share=True)
    assert found.interval is not None
    assert found.drop_interval is not None
    assert found.drop_interval.value == pytest.approx(0.1)
    width, drop_width = (i.high - i.low for i in (found.interval, found.drop_interval))
    assert width > 0.3
    assert drop_width < 0.01
    error = measure(higher_is_better=False, teacher=0.4, student=0.5)
    turned = with_intervals(error, 0.5 + noise + own, 0.4 + noise, is_share=False)
    assert turned.drop_interval is not None
    assert turned.drop_interval.value == pytest.approx(0.1)
    assert 0.09 < turned.drop_interval.low < 0.1 < turned.drop_interval.high < 0.11
    alone = add_intervals.add_intervals(measure(teacher=None), 0.4 + noise, is_share=True)
    assert alone.interval is not None
    assert alone.drop_interval is None


def test_equal_numbers_of_few_inputs_are_no_certainty_but_for_what_is_no_share() -> None:
    same = np.full(DRAWS, 1.0)
    shown = measure(student=1.0, teacher=1.0, n=10)
    found = with_intervals(shown, same, same, is_share=True)
    assert found.interval == Interval(1.0, pytest.approx(wilson_interval(10, 10).low), 1.0, 10)
    points = paired_drop(0, 0, 10).points
    assert found.drop_interval == Interval(0.0, points.low / 100, points.high / 100, 10)
    exact = with_intervals(shown, same, same, is_share=False)
    assert exact.interval == Interval(1.0, 1.0, 1.0, 10)
    assert exact.drop_interval == Interval(0.0, 0.0, 0.0, 10)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((12, 5), {"agreement"}),
        ((12, 4, 16, 16), {"fidelity_miou"}),
        ((12, 3, 16, 16), {"psnr", "ssim"}),
        ((12, 2, 3), {"mae", "correlation"}),
        ((12, 6, 4), {"fidelity_characters", "fidelity_lines"}),
    ],
)
def test_every_measure_of_every_task_has_an_interval(
    shape: tuple[int, ...], names: set[str]
) -> None:
    teacher = RNG.uniform(0, 1, shape).astype(np.float32)
    student = np.clip(teacher + RNG.normal(0, 0.1, shape), 0, 1).astype(np.float32)
    options = MeasureOptions(head="ctc" if "fidelity_lines" in names else None)
    pair = PairMeasurement(OutputContext(shape=(3, 16, 16), frame=(16, 16)), options, "real")
    for start in range(0, 12, 6):
        parts = ({"y": each[start : start + 6]} for each in (teacher, student))
        pair.add(*parts, start, 6)
    found = pair.result().measures
    assert {each.name for each in found} == names
    for each in found:
        assert each.interval is not None, each.name
        assert each.interval.n == each.n == 12
        assert each.interval.value == each.student
        assert each.interval.low <= each.student <= each.interval.high
        assert each.interval.low < each.interval.high


def test_images_without_a_true_box_say_nothing() -> None:
    same = np.where(np.arange(DRAWS) % 3, 1.0, np.nan)  # a third of the draws has no true box
    found = with_intervals(
        measure(student=1.0, teacher=None, n=36), same, is_share=True, informative=1
    )
    assert found.interval == Interval(1.0, wilson_interval(1, 1).low, 1.0, 1)


def test_rows_of_one_input_are_drawn_together() -> None:
    outputs = {"boxes": np.arange(24.0).reshape(12, 2), "n": np.arange(3), "x": np.zeros((5, 2))}
    found = group_rows(outputs, 3)
    assert found["boxes"].shape == (3, 4, 2)
    np.testing.assert_array_equal(found["boxes"][1, 0], [8.0, 9.0])
    assert found["n"].shape == (3,)
    assert found["x"].shape == (5, 2)
