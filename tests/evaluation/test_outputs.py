"""What an output is taken for, and its measures against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dfqonnx.evaluation.outputs import (
    ComparisonTally,
    compare_output,
    compare_outputs,
    output_kind,
)

RNG = np.random.default_rng(0)
IMAGE = (3, 32, 48)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((4, 10), "f4", "classes"),
        ((4, 1), "f4", "values"),
        ((4, 21, 32, 48), "f4", "mask"),
        ((4, 32, 48, 21), "f4", "mask"),
        ((4, 3, 64, 96), "f4", "image"),
        ((4, 64, 96, 3), "f4", "image"),
        ((4, 1, 32, 48), "f4", "image"),
        ((4, 85, 4, 6), "f4", "values"),
        ((4, 100, 4), "f4", "values"),
        ((4, 32, 48), "i8", "labels"),
        ((4, 3, 8, 12), "f4", "values"),
    ],
)
def test_an_output_is_taken_for_what_its_shape_says(
    shape: tuple[int, ...], dtype: str, kind: str
) -> None:
    assert output_kind(np.zeros(shape, dtype), IMAGE) == kind


def test_a_mask_tells_pixels() -> None:
    teacher = RNG.standard_normal((2, 5, 32, 48)).astype("f4")
    student = teacher.copy()
    student[0, :, :16] = teacher[0, ::-1, :16]
    found = compare_output("m", teacher, student, IMAGE)
    equal = (teacher.argmax(1) == student.argmax(1)).mean()
    assert found.kind == "mask"
    assert found.same == pytest.approx(equal)


def test_equal_outputs_are_exact_and_lists_of_other_lengths_vary() -> None:
    teacher = RNG.standard_normal((2, 7)).astype("f4")
    same = compare_output("y", teacher, teacher)
    assert same.exact
    assert same.sqnr_db is None
    assert compare_output("y", np.zeros((3, 3), "i8"), np.zeros((4, 3), "i8")).kind == "varying"


def test_half_precision_does_not_overflow() -> None:
    teacher = np.array([[60000] * 4, [-60000] * 4], np.float16)
    found = compare_output("y", teacher, -teacher)
    # of two inputs the unbiased variance is twice the power; the noise is four times the power
    assert found.sqnr_db == pytest.approx(10 * np.log10(2 / 4))


def test_batches_give_what_one_batch_gives_and_labels_are_counted_over_all() -> None:
    shapes = {"y": (50, 7), "m": (50, 5, 32, 48), "k": (50, 32, 48), "v": (50, 4, 3)}
    teacher = {name: RNG.standard_normal(shape) for name, shape in shapes.items()}
    student = {name: each + RNG.normal(0, 0.5, each.shape) for name, each in teacher.items()}
    for part in (teacher, student):
        part["k"] = part["k"].astype(np.int64)
    labels = RNG.integers(0, 7, 50)
    whole = compare_outputs(teacher, student, labels, image=IMAGE, inputs=50)
    tally = ComparisonTally(IMAGE)
    for start in range(0, 50, 16):
        parts = [{n: each[start : start + 16] for n, each in part.items()}
                 for part in (teacher, student)]  # fmt: skip
        tally.add(*parts, len(parts[0]["y"]))
    found = tally.result(labels)
    assert found.images == 50
    assert [each.kind for each in found.outputs] == ["classes", "mask", "labels", "values"]
    for field in ("agreement", "teacher_top1", "student_top1", "drop", "classes", "evidence"):
        assert getattr(found, field) == getattr(whole, field)
    for each, expected in zip(found.outputs, whole.outputs, strict=True):
        assert (each.name, each.same, each.exact) == (expected.name, expected.same, expected.exact)
        for field in ("sqnr_db", "kl"):
            first, second = getattr(each, field), getattr(expected, field)
            assert first == (None if second is None else pytest.approx(second, rel=1e-9))
    assert whole.outputs[0].same == whole.agreement.value if whole.agreement else None
    assert whole.outputs[2].same == (teacher["k"] == student["k"]).mean()


def test_an_output_whose_shape_changes_from_batch_to_batch_varies() -> None:
    tally = ComparisonTally(IMAGE)
    for boxes in (3, 4, 3):
        part = {"boxes": RNG.standard_normal((2, boxes, 4))}
        tally.add(part, part, 2)
    found = tally.result()
    assert (found.outputs[0].kind, found.images) == ("varying", 6)
