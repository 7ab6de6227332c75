"""Resize and Upsample as older opsets spell them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dfqonnx.convert.op_registry import Ints, Numbers, operator
from dfqonnx.convert.ops.resize import Coordinates, Mode, Nearest, resize


@operator("Resize", 11, 13)
def resize_11(
    X: Tensor,
    roi: Numbers | None = None,
    scales: Numbers | None = None,
    sizes: Ints | None = None,
    *,
    coordinate_transformation_mode: Coordinates = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    mode: Mode = "nearest",
    nearest_mode: Nearest = "round_prefer_floor",
) -> Tensor:
    """Interpolate to a scaled or a given size."""
    return resize(
        X,
        roi,
        scales,
        sizes,
        coordinate_transformation_mode=coordinate_transformation_mode,
        cubic_coeff_a=cubic_coeff_a,
        exclude_outside=exclude_outside,
        extrapolation_value=extrapolation_value,
        mode=mode,
        nearest_mode=nearest_mode,
    )


@operator("Resize", 10)
@operator("Upsample", 9)
def upsample(
    X: Tensor, scales: Numbers, *, mode: Literal["nearest", "linear"] = "nearest"
) -> Tensor:
    """Interpolate with x / s as the coordinate."""
    return resize(
        X,
        None,
        scales,
        coordinate_transformation_mode="asymmetric",
        mode=mode,
        nearest_mode="floor",
    )


@operator("Upsample", 7)
def upsample_7(
    X: Tensor, *, scales: Numbers, mode: Literal["nearest", "linear"] = "nearest"
) -> Tensor:
    """Interpolate with scales given as an attribute."""
    return upsample(X, scales, mode=mode)
