"""Resize and Upsample of every version, with what exporters write where an input is not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contracts.nets import Builder
from tests.contracts.pipeline import check_contract, quantize

SCALES, SIZES = np.float32([1, 1, 2, 2]), np.int64([1, 8, 32, 32])
NOTHING, ROI = np.zeros(0, np.float32), np.zeros(8, np.float32)
FLOOR = {
    "mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric",
}  # fmt: skip


def _resize(b: Builder, x: str, *given: Any, nodes: bool = False, **attributes: Any) -> str:
    """`nodes`: constants are nodes, as PyTorch wrote them, not initializers."""
    names = [""] * len(given)
    for index, array in enumerate(given):
        if array is not None:
            names[index] = b.constant(array)
            if nodes:
                names[index] = b.op("Constant", value=b.tensors.pop())
    return b.op("Resize", x, *names, **attributes)


def _check(b: Builder, y: str, folder: Path, *, opset: int, batch: int | str = 1) -> list[str]:
    """Quantize the net that ends with `y` and one Conv more; return its operators in float."""
    proto = b.model(b.conv(y, 8, 4), [batch, 3, 16, 16], opset=opset)
    found = quantize(proto, folder)
    check_contract(proto, found.proto)
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1
    # measured 37 and more; pixels taken from elsewhere give less than 10
    assert min(found.sqnr_db.values()) > 25
    return found.float_ops()


@pytest.mark.parametrize(("opset", "given", "nodes"), [
    (11, (NOTHING, SCALES), True), (11, (NOTHING, NOTHING, SIZES), True),
    (12, (ROI, NOTHING, SIZES), False), (13, (None, NOTHING, SIZES), True),
    (13, (None, None, SIZES), False), (17, (NOTHING, NOTHING, SIZES), False),
    (19, (ROI, SCALES), False), (21, (NOTHING, None, SIZES), True),
])  # fmt: skip
def test_inputs_that_a_resize_does_not_use_may_be_empty_in_any_way(
    opset: int, given: tuple[Any, ...], nodes: bool, tmp_path: Path
) -> None:
    b = Builder()
    y = _resize(b, b.conv_relu("x", 3, 8), *given, nodes=nodes, **FLOOR)
    assert _check(b, y, tmp_path, opset=opset) == []


@pytest.mark.parametrize("given", [{"sizes": [40, 24]}, {"scales": [2.5, 1.5]}])
def test_axes_of_the_image_alone_become_scales_of_all(
    given: dict[str, list[float]], tmp_path: Path
) -> None:
    b = Builder()
    scales = np.float32(given["scales"]) if "scales" in given else None
    sizes = np.int64(given["sizes"]) if "sizes" in given else None
    y = _resize(b, b.conv_relu("x", 3, 8), None, scales, sizes, axes=[2, 3], **FLOOR)
    assert _check(b, y, tmp_path, opset=18, batch="N") == []


@pytest.mark.parametrize("size", [(1, 8, 23, 41), (1, 8, 7, 5), (1, 8, 61, 16)])
@pytest.mark.parametrize(
    ("mode", "coordinates"),
    [("nearest", "half_pixel"), ("linear", "align_corners"), ("linear", "pytorch_half_pixel")],
)
def test_sizes_that_are_no_multiples_keep_their_pixels(
    size: tuple[int, ...], mode: str, coordinates: str, tmp_path: Path
) -> None:
    b = Builder()
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = "round_prefer_floor"
    y = _resize(b, b.conv_relu("x", 3, 8), NOTHING, NOTHING, np.int64(size), **attributes)
    assert _check(b, y, tmp_path, opset=11) == ([] if mode == "nearest" else ["Resize"])


def test_a_size_that_no_scale_gives_counts_the_images_at_run_time(tmp_path: Path) -> None:
    sizes = [m for m in range(8, 8000, 8) if int(np.float32(15) * np.float32(m / 15)) != m]
    assert sizes, "float32 has such sizes"
    b = Builder()
    small = b.op("Slice", b.conv_relu("x", 3, 8), *map(b.constant, ([0], [15], [2])))
    y = _resize(b, small, NOTHING, NOTHING, np.int64([1, 8, sizes[0], 4]), **FLOOR)
    y = b.op("MaxPool", y, kernel_shape=[8, 1], strides=[8, 1])
    assert _check(b, y, tmp_path, opset=13) == []


@pytest.mark.parametrize(("opset", "op"), [(7, "Upsample"), (9, "Upsample"), (10, "Resize")])
def test_the_versions_before_coordinates_are_upgraded_too(
    opset: int, op: str, tmp_path: Path
) -> None:
    b = Builder()
    small = b.conv_relu("x", 3, 8)
    y = (
        b.op(op, small, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])
        if opset == 7
        else b.op(op, small, b.constant(np.float32([1, 1, 2, 3])), mode="nearest")
    )
    assert _check(b, y, tmp_path, opset=opset) == []


@pytest.mark.parametrize("given", [(None, None, SIZES[:, None]), (None, SCALES[:, None])])
def test_numbers_in_a_matrix_are_read_as_the_runtime_reads_them(
    tmp_path: Path, given: tuple[Any, ...]
) -> None:
    b = Builder()
    y = _resize(b, b.conv_relu("x", 3, 8), *given, **FLOOR)
    _check(b, y, tmp_path, opset=18)
