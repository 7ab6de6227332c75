"""What an output is taken for, and its measures against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dfqonnx.evaluation.outputs import compare_output, mean_iou, output_kind, psnr_db

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


def test_psnr_of_noise_of_known_power() -> None:
    teacher = np.linspace(0.0, 1.0, 1000)
    noise = np.where(np.arange(1000) % 2, 0.01, -0.01)  # mean square 1e-4, peak 1
    assert psnr_db(teacher, teacher + noise) == pytest.approx(40.0)
    assert psnr_db(teacher, teacher) is None


def test_iou_by_hand() -> None:
    teacher = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    student = np.array([0, 0, 1, 1, 1, 1, 2, 0])
    # class 0: 2 of 5, class 1: 2 of 4, class 2: 1 of 2
    assert mean_iou(teacher, student) == pytest.approx((2 / 5 + 2 / 4 + 1 / 2) / 3)


def test_a_mask_tells_pixels_and_iou() -> None:
    teacher = RNG.standard_normal((2, 5, 32, 48)).astype("f4")
    student = teacher.copy()
    student[0, :, :16] = teacher[0, ::-1, :16]
    found = compare_output("m", teacher, student, IMAGE)
    equal = (teacher.argmax(1) == student.argmax(1)).mean()
    assert found.kind == "mask"
    assert found.same == pytest.approx(equal)
    assert found.iou is not None
    assert 0.5 < found.iou < found.same


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
