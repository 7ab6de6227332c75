"""Measures of every task against figures worked out by hand, or by another kept library."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dfqonnx.data.fit import fit_boxes, fit_mask, fit_pixels, place_image
from dfqonnx.data.label_types import (
    COCO_IDS,
    NO_CLASS,
    BoxLabels,
    ImageBoxes,
    TextLabels,
    ValueLabels,
)
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.heads.detections import Detections
from dfqonnx.evaluation.measures.box_measures import average_precision
from dfqonnx.evaluation.measures.choose_tallies import (
    MeasureOptions,
    OutputContext,
    choose_tallies,
)
from dfqonnx.evaluation.measures.custom_metric import load_metric
from dfqonnx.evaluation.measures.mask_measures import OverlapCounts
from dfqonnx.evaluation.measures.picture_measures import (
    guess_range,
    peak_ratio_db,
    structural_similarity,
)
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, best_known, keep_worst
from dfqonnx.evaluation.measures.text_measures import (
    character_accuracy,
    decode_greedily,
    line_accuracy,
    read_characters,
)

RNG = np.random.default_rng(0)
IMAGE = OutputContext(shape=(3, 32, 48), frame=(32, 48))


def measured(
    teacher: NDArray[np.generic],
    student: NDArray[np.generic],
    context: OutputContext = IMAGE,
    options: MeasureOptions | None = None,
) -> dict[str, TaskMeasure]:
    """All measures of one output, given in two batches."""
    asked = options or MeasureOptions()
    chosen = choose_tallies({"y": teacher[:2]}, {"y": student[:2]}, context, asked)
    for tally in chosen.tallies:
        tally.add({"y": teacher[:2]}, {"y": student[:2]}, 0)
        tally.add({"y": teacher[2:]}, {"y": student[2:]}, 2)
    return {m.name: m for tally in chosen.tallies for m in tally.measures()}


def boxes(*rows: tuple[float, ...], crowd: bool = False) -> ImageBoxes:
    array = np.array(rows, np.float64).reshape(-1, 5)
    return ImageBoxes(array[:, :4], array[:, 4].astype(np.int64), np.full(len(array), crowd))


def detected(*rows: tuple[float, ...]) -> Detections:
    array = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 5], array[:, 4].astype(np.int64))


def test_average_precision_worked_out_by_hand() -> None:
    truth = [boxes((0, 0, 10, 10, 3)), boxes((0, 0, 10, 10, 3))]
    found = [
        detected((0, 0, 10, 10, 3, 0.9), (50, 50, 60, 60, 3, 0.8)),
        detected((0, 0, 10, 8, 3, 0.7)),  # IoU 0.8
    ]
    # ranked: hit, miss, hit: precision 1 up to recall 0.5 (51 of 101 recalls), then 2/3
    high = (51 + 50 * 2 / 3) / 101
    result = average_precision(truth, found)
    assert result.map50 == pytest.approx(high)
    low = 51 / 101  # from IoU 0.85 on the third is no hit
    assert result.map == pytest.approx((7 * high + 3 * low) / 10)


def test_average_precision_without_true_boxes_is_unknown_and_without_found_ones_zero() -> None:
    assert average_precision([boxes()], [detected((0, 0, 1, 1, 0, 0.9))]).map is None
    assert average_precision([boxes((0, 0, 1, 1, 0), crowd=True)], [detected()]).map is None
    assert average_precision([boxes((0, 0, 9, 9, 0))], [detected()]).map50 == 0.0


def test_a_crowd_neither_counts_nor_punishes() -> None:
    truth = [boxes((0, 0, 10, 10, 1))]
    group = boxes((20, 20, 60, 60, 1), crowd=True)
    joined = ImageBoxes(
        np.concatenate([truth[0].boxes, group.boxes]),
        np.concatenate([truth[0].classes, group.classes]),
        np.concatenate([truth[0].crowd, group.crowd]),
    )
    found = [detected((25, 25, 40, 40, 1, 0.9), (0, 0, 10, 10, 1, 0.8))]
    assert average_precision(truth, found).map50 == pytest.approx(0.5)
    assert average_precision([joined], found).map50 == pytest.approx(1.0)


def test_classes_of_labels_meet_those_of_the_head() -> None:
    coco = BoxLabels((boxes((0, 0, 1, 1, 2)),), COCO_IDS)
    assert coco.to_head_classes(80) == tuple(range(80))
    assert coco.to_head_classes(81)[0] == 1
    assert coco.to_head_classes(91) == COCO_IDS
    assert coco.to_head_classes(90)[-1] == 89
    assert BoxLabels((), (3, 90)).to_head_classes(80) == (2, 79)
    assert BoxLabels((), (0,)).to_head_classes(2) == (1,)  # a background before it
    with pytest.raises(UsageError, match="80 classes"):
        coco.to_head_classes(20)
    few = BoxLabels((boxes((0, 0, 1, 1, 2)), boxes((0, 0, 1, 1, 30))), tuple(range(80)))
    assert BoxLabels(few.images[:1], few.category_ids).to_head_classes(20) == tuple(range(80))
    with pytest.raises(UsageError, match="the largest number in use is 30"):
        few.to_head_classes(20)


def test_masks_overlap_as_counted_by_hand() -> None:
    truth = np.array([[[0, 0, 1, 1], [2, 2, 2, NO_CLASS]]])
    found = np.array([[[0, 1, 1, 1], [2, 2, 0, 0]]])
    counts = OverlapCounts()
    counts.add(truth, found)
    assert counts.mean() == pytest.approx(np.mean([1 / 3, 2 / 3, 2 / 3]))
    assert OverlapCounts().mean() is None


def test_masks_are_measured_over_all_batches_against_labels_and_against_the_teacher() -> None:
    class Labels:
        masks = RNG.integers(0, 4, (5, 32, 48))

        def __len__(self) -> int:
            return 5

        def read_masks(self, start: int, stop: int) -> NDArray[np.int64]:
            return self.masks[start:stop]

    teacher, student = RNG.normal(size=(2, 5, 4, 32, 48))
    found = measured(teacher, student, OutputContext(shape=(3, 32, 48), labels=Labels()))
    for name, truth, says in (
        ("miou", Labels.masks, student.argmax(1)),
        ("fidelity_miou", teacher.argmax(1), student.argmax(1)),
    ):
        shares = [
            ((truth == k) & (says == k)).sum() / ((truth == k) | (says == k)).sum()
            for k in range(4)
        ]
        assert found[name].student == pytest.approx(np.mean(shares))
        assert found[name].n == 5
    assert found["fidelity_miou"].teacher is None
    assert found["miou"].teacher is not None


def test_a_plane_of_probabilities_is_a_mask_of_two_classes() -> None:
    teacher = np.zeros((3, 1, 32, 48))
    teacher[:, :, :16] = 0.9
    student = np.where(np.arange(48) < 24, teacher, 0.1)
    found = measured(teacher, student)
    assert found["fidelity_miou"].student == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_similarity_equals_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first = RNG.uniform(0, 255, (40, 50))
    second = first + RNG.normal(0, 20, first.shape)
    expected = metrics.structural_similarity(
        first, second, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert structural_similarity(first, second, 255.0) == pytest.approx(expected, abs=1e-12)
    ratio = metrics.peak_signal_noise_ratio(first, second, data_range=255)
    assert peak_ratio_db(first, second, 255.0) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 1)), (-1, 1, (-1, 1)), (0, 255, (0, 255)), (-3, 700, (-3, 700))],
)
def test_the_range_of_pictures_is_the_narrowest_usual_one(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    assert guess_range(np.linspace(low, high, 1000)) == expected


def test_pictures_are_cut_to_the_range_that_the_user_gives() -> None:
    teacher = np.full((3, 3, 32, 48), 255.0)
    student = teacher + 40  # beyond white: no eye sees it
    options = MeasureOptions(pixel_range=(0.0, 255.0))
    assert measured(teacher, student, options=options)["psnr"].student == 100.0
    found = measured(teacher, teacher - 25.5, options=options)["psnr"]
    assert found.student == pytest.approx(20.0)
    assert "0 to 255 (given)" in found.meaning


def test_texts_are_decoded_and_compared_by_hand() -> None:
    steps = np.array([[0, 1, 1, 0, 1, 2], [2, 2, 0, 0, 3, 0]])
    output = np.eye(4)[steps]
    assert decode_greedily(output) == [(1, 1, 2), (2, 3)]
    assert character_accuracy(["kitten", "abc"], ["sitting", "abc"]) == pytest.approx(1 - 3 / 10)
    assert line_accuracy(["a", "b"], ["a", "c"]) == 0.5
    assert character_accuracy([""], [""]) is None
    assert read_characters({"character": "a\nb"}, 3) == ("", "a", "b")
    assert read_characters({"character": "a\nb"}, 4) == ("", "a", "b", " ")
    assert read_characters({"character": "a\nb"}, 9) is None
    assert read_characters({}, 3) is None


def test_texts_are_measured_against_labels_and_against_the_teacher() -> None:
    teacher = np.eye(4)[np.array([[1, 0, 2, 3], [1, 2, 0, 0], [2, 2, 2, 2]])]
    student = np.eye(4)[np.array([[1, 0, 2, 3], [1, 1, 0, 0], [2, 0, 2, 2]])]
    context = OutputContext(
        shape=(3, 48, 64), metadata={"character": "a\nb"}, labels=TextLabels(("ab", "ab", "bb"))
    )
    found = measured(teacher, student, context)
    assert found["characters"].teacher == pytest.approx(5 / 6)  # "ab", "ab", "b"
    assert found["characters"].student == pytest.approx(5 / 6)  # "ab", "a", "bb"
    assert found["lines"].student == pytest.approx(2 / 3)
    assert found["fidelity_characters"].student == pytest.approx(1 - 2 / 5)
    assert found["fidelity_lines"].student == pytest.approx(1 / 3)


def test_values_are_measured_by_distance_and_correlation() -> None:
    teacher = RNG.normal(3, 1, (50, 1))
    student = teacher + RNG.normal(0, 0.3, (50, 1))
    truth = teacher + 0.5
    found = measured(teacher, student, OutputContext(shape=(900, 120), labels=ValueLabels(truth)))
    assert found["mae"].student == pytest.approx(np.abs(teacher - student).mean())
    expected = np.corrcoef(teacher.ravel(), student.ravel())[0, 1]
    assert found["correlation"].student == pytest.approx(expected)
    assert found["label_mae"].teacher == pytest.approx(0.5)
    assert found["label_mae"].drop == pytest.approx(np.abs(student - truth).mean() - 0.5)
    assert not found["mae"].higher_is_better
    constant = measured(np.ones((3, 1)), np.arange(3.0)[:, None], OutputContext(shape=(900, 120)))
    assert constant["correlation"].student is None


def test_an_autoencoder_gives_values_and_a_classifier_classes() -> None:
    teacher, student = RNG.normal(size=(2, 5, 8))
    assert set(measured(teacher, student, OutputContext(shape=(8,)))) == {"mae", "correlation"}
    context = OutputContext(shape=(3, 4, 4), labels=teacher.argmax(1))
    found = measured(teacher, student, context)
    share = (teacher.argmax(1) == student.argmax(1)).mean()
    assert found["top1"].teacher == 100.0
    assert found["top1"].student == pytest.approx(100 * share)
    assert found["agreement"].student == pytest.approx(share)


def test_labels_that_no_output_can_be_compared_with_are_refused() -> None:
    scores = RNG.normal(size=(3, 8))
    context = OutputContext(shape=(3, 4, 4), labels=TextLabels(("a", "b", "c")))
    with pytest.raises(UsageError, match="the labels are texts"):
        measured(scores, scores, context)
    context = OutputContext(shape=(3, 4, 4), labels=BoxLabels((boxes(),) * 3, (0,)))
    with pytest.raises(UsageError, match=r"no decoder is known .*metric"):
        measured(scores, scores, context)


def test_the_worst_output_and_the_best_inputs_speak() -> None:
    def one(student: float | None, up: bool = True, **more: str) -> TaskMeasure:
        return TaskMeasure(
            name="m", task="values", truth="labels", student=student, higher_is_better=up, **more
        )  # type: ignore[arg-type]

    assert keep_worst([one(0.9), one(0.7), one(None)])[0].student == 0.7
    assert keep_worst([one(0.1, False), one(0.4, False), one(0.2, False)])[0].student == 0.4
    found = best_known([one(1.0, inputs="synthetic"), one(2.0, inputs="evaluation")], "m")
    assert found is not None
    assert found.student == 2.0
    assert best_known([], "m") is None


METRIC = """
LOWER_IS_BETTER = ("error",)
def good(outputs, labels):
    return {"error": float(abs(outputs["y"]).mean()), "known": 0.0 if labels is None else 1.0}
def failing(outputs, labels):
    x = 1
    return {"error": outputs["z"]}
def list_(outputs, labels):
    return [1]
def nan(outputs, labels):
    return {"error": float("nan")}
def text(outputs, labels):
    return {"error": "much"}
def odd(outputs, labels):
    return {"my error": 1.0}
def leaving(outputs, labels):
    raise SystemExit(3)
"""


def metric(folder: Path, name: str, text: str = METRIC) -> MeasureOptions:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return MeasureOptions(metric=load_metric(f"{path}:{name}"))


def test_a_metric_of_the_user_is_asked_for_both_models(tmp_path: Path) -> None:
    teacher = np.ones((4, 3))
    found = measured(teacher, teacher * 2, options=metric(tmp_path, "good"))
    assert (found["error"].teacher, found["error"].student) == (1.0, 2.0)
    assert found["error"].drop == 1.0
    assert found["error"].n == 4
    assert found["known"].student == 0.0
    assert "agreement" in found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("failing", r"mine.py:7: KeyError: 'z'"),
        ("list_", r"returned \[1\]; expected a dict"),
        ("nan", "error is nan; expected a finite number"),
        ("text", "error is 'much'"),
        ("odd", "called 'my error'"),
        ("leaving", r"mine.py:17: SystemExit: 3"),
    ],
)
def test_a_failing_metric_is_named_with_its_line(name: str, words: str, tmp_path: Path) -> None:
    values = np.ones((4, 3))
    with pytest.raises(UsageError, match=words):
        measured(values, values, options=metric(tmp_path, name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name\n", r"mine.py:1: ModuleNotFoundError"),
        ("x = 1\ndef broken(:\n", r"mine.py:2: SyntaxError"),
        ("y = 2\n", "has no function 'good'"),
        ("LOWER_IS_BETTER = 'wer'\ndef good(o, l): ...\n", "must be a tuple"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        metric(tmp_path, "good", text)


@pytest.mark.parametrize("text", ["mine.py", "mine:f", "nowhere.py:f", ":f", "a.py:not a name"])
def test_a_metric_is_written_as_file_and_function(text: str) -> None:
    with pytest.raises(UsageError, match=r"metric"):
        load_metric(text)


def test_boxes_pixels_and_masks_are_brought_to_the_same_place() -> None:
    from PIL import Image

    size, frame = (20, 40), (32, 32)
    picture = np.zeros((*size, 3), np.uint8)
    picture[5:15, 10:30] = 255
    label = (picture[..., 0] > 0).astype(np.int64)
    box = np.array([[10.0, 5.0, 30.0, 15.0]])
    for fit in ("crop", "stretch", "letterbox", "pad"):
        pixels, inside = fit_pixels(Image.fromarray(picture), (*frame, 3), fit)
        (left, top, right, bottom) = fit_boxes(box, size, frame, fit)[0]
        masked = fit_mask(label, frame, fit, NO_CLASS)
        assert inside.shape == frame
        np.testing.assert_array_equal(masked == NO_CLASS, ~inside)
        rows, columns = np.mgrid[: frame[0], : frame[1]] + 0.5
        margin = 1.0  # bilinear edges
        inner = (columns > left + margin) & (columns < right - margin)
        inner &= (rows > top + margin) & (rows < bottom - margin)
        assert inner.any()
        assert (pixels[inner] == 255).all(), fit
        assert (masked[inner] == 1).all(), fit


def test_a_letterbox_keeps_the_shape_and_centers_it() -> None:
    place = place_image((100, 200), (64, 64), "letterbox")
    assert place.inner == (32, 64)
    assert place.shift == (0.0, 16.0)
    assert math.isclose(place.scale[0], 0.32)
