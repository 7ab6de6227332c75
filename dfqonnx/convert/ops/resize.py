"""Resize and Upsample: interpolation axis by axis.

An output cell x of an axis with input size n, output size m and scale s lies at input coordinate

    half_pixel            (x + 1/2) / s - 1/2
    half_pixel_symmetric  the same, shifted by n/2 (1 - m / (s n))
    pytorch_half_pixel    the same as half_pixel, 0 when m = 1
    asymmetric            x / s
    align_corners         x (n - 1) / (m - 1), 0 when m = 1 (as ONNX Runtime; ONNX means s n for m)
    tf_crop_and_resize    between the corners of the region of interest
    tf_half_pixel_for_nn  (x + 1/2) / s

and its value is sum_i k((i - x') f) v_i over cells i, edge cells repeated; k is the triangle
(linear) or Keys' piecewise cubic with coefficient a; f = min(s, 1) with antialias (weights then
sum to 1). The weights of an axis form a matrix (m, n), so that an axis costs one product and
gradients are exact. Common cases go to torch's own kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, Numbers, operator

Float64 = NDArray[np.float64]
Mode = Literal["nearest", "linear", "cubic"]
Coordinates = Literal[
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
]
Policy = Literal["stretch", "not_larger", "not_smaller"]
Nearest = Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
_TORCH_MODES = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear"}
_REPEATS = {  # with a whole scale these repeat every cell
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("asymmetric", "floor"),
}
_NEAREST: dict[str, Callable[[Float64], Float64]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True, kw_only=True)
class ResizeRule:
    """How coordinates become weights; the attributes of Resize under their ONNX names."""

    mode: Mode = "nearest"
    coordinates: Coordinates = "half_pixel"
    nearest_mode: Nearest = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    antialias: int = 0
    exclude_outside: int = 0
    extrapolation_value: float = 0.0


@dataclass(frozen=True)
class Axis:
    """One axis: input size, output size, scale, and begin and end of the region of interest."""

    n: int
    m: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@operator("Resize", 11, 13, 18, 19)
def resize(
    X: Tensor,
    roi: Numbers | None = None,
    scales: Numbers | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: Ints | None = None,
    coordinate_transformation_mode: Coordinates = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: Policy = "stretch",
    mode: Mode = "nearest",
    nearest_mode: Nearest = "round_prefer_floor",
) -> Tensor:
    """Interpolate to a scaled or a given size."""
    rule = ResizeRule(
        mode=mode,
        coordinates=coordinate_transformation_mode,
        nearest_mode=nearest_mode,
        cubic_coeff_a=cubic_coeff_a,
        antialias=antialias,
        exclude_outside=exclude_outside,
        extrapolation_value=extrapolation_value,
    )
    chosen = tuple(range(X.dim())) if axes is None else tuple(a % X.dim() for a in axes)
    old = tuple(X.shape[axis] for axis in chosen)
    if scales:
        factors = tuple(float(s) for s in scales)
        new = tuple(math.floor(n * s) for n, s in zip(old, factors, strict=True))
    else:
        new, factors = _keep_aspect(old, sizes or (), policy=keep_aspect_ratio_policy)
    regions = [(0.0, 1.0)] * len(chosen)
    if roi and rule.coordinates == "tf_crop_and_resize":
        regions = list(zip(roi[: len(chosen)], roi[len(chosen) :], strict=True))
    plan = dict(zip(chosen, map(Axis, old, new, factors, regions), strict=True))
    return _resize_axes(X, plan, rule)


@operator("Resize", 10)
@operator("Upsample", 7, 9)
def upsample(
    X: Tensor, scales: Numbers, *, mode: Literal["nearest", "linear"] = "nearest"
) -> Tensor:
    """Interpolate with x / s as the coordinate."""
    return resize(
        X,
        scales=scales,
        coordinate_transformation_mode="asymmetric",
        mode=mode,
        nearest_mode="floor",
    )


def _keep_aspect(old: Ints, sizes: Ints, *, policy: Policy) -> tuple[Ints, tuple[float, ...]]:
    """Return output sizes and scales for the wanted sizes."""
    each = tuple(m / n for n, m in zip(old, sizes, strict=True))
    if policy == "stretch":
        return sizes, each
    scale = min(each) if policy == "not_larger" else max(each)
    return tuple(math.floor(n * scale + 0.5) for n in old), (scale,) * len(old)


def _resize_axes(x: Tensor, plan: dict[int, Axis], rule: ResizeRule) -> Tensor:
    kept = {a: p for a, p in plan.items() if p.scale != 1 or p.m != p.n or p.region != (0, 1)}
    fast = _interpolate_by_torch(x, kept, rule)
    if fast is not None:
        return fast
    for axis, place in kept.items():
        if rule.mode == "nearest":
            cells = torch.from_numpy(_find_nearest(place, rule)).to(x.device)
            x = x.index_select(axis, cells)
        else:
            kind = x.dtype if x.is_floating_point() else torch.float32
            weights = torch.from_numpy(_compute_weights(place, rule)).to(x.device, kind)  # (m, n)
            x = (x.to(kind).movedim(axis, -1) @ weights.t()).movedim(-1, axis).to(x.dtype)
    if rule.coordinates == "tf_crop_and_resize":
        for axis, place in kept.items():
            at = torch.from_numpy(_compute_coordinates(place, rule))
            outside = ((at < 0) | (at > place.n - 1)).to(x.device)
            outside = outside.view(-1, *(1,) * (x.dim() - 1 - axis))
            x = torch.where(outside, rule.extrapolation_value, x)
    return x


def _interpolate_by_torch(x: Tensor, plan: dict[int, Axis], rule: ResizeRule) -> Tensor | None:
    """Return torch's own answer where it computes the same thing, else None."""
    spatial = x.dim() - 2
    if (
        not x.is_floating_point()
        or spatial not in (1, 2, 3)
        or any(axis < 2 for axis in plan)
        or any(p.scale * p.n != p.m for p in plan.values())
        or rule.antialias
        or rule.exclude_outside
    ):
        return None
    size = [plan[axis].m if axis in plan else x.shape[axis] for axis in range(2, x.dim())]
    if rule.mode == "nearest":
        whole = all(p.m % p.n == 0 for p in plan.values())
        plain = (rule.coordinates, rule.nearest_mode) in _REPEATS
        return F.interpolate(x, size, mode="nearest") if whole and plain else None
    if rule.coordinates not in ("half_pixel", "align_corners"):
        return None
    mode = _TORCH_MODES.get((rule.mode, spatial))
    if rule.mode == "cubic" and spatial == 2 and rule.cubic_coeff_a == -0.75:
        mode = "bicubic"
    if mode is None:
        return None
    return F.interpolate(x, size, mode=mode, align_corners=rule.coordinates == "align_corners")


@functools.lru_cache(maxsize=256)
def _compute_coordinates(axis: Axis, rule: ResizeRule) -> Float64:
    """Return the input coordinate of every output cell: (m)."""
    x = np.arange(axis.m, dtype=np.float64)
    n, m, s = axis.n, axis.m, axis.scale
    match rule.coordinates:
        case "asymmetric":
            return x / s
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / s
        case "align_corners":
            return x * (n - 1) / (m - 1) if m > 1 else x * 0.0
        case "tf_crop_and_resize":
            start, end = axis.region
            if m == 1:
                return x * 0.0 + 0.5 * (start + end) * (n - 1)
            return (start + x * (end - start) / (m - 1)) * (n - 1)
        case "pytorch_half_pixel":
            return (x + 0.5) / s - 0.5 if m > 1 else x * 0.0
        case "half_pixel_symmetric":
            return n / 2 * (1 - m / (s * n)) + (x + 0.5) / s - 0.5
        case _:
            return (x + 0.5) / s - 0.5


@functools.lru_cache(maxsize=256)
def _find_nearest(axis: Axis, rule: ResizeRule) -> NDArray[np.int64]:
    """Return the input cell of every output cell: (m)."""
    cells = _NEAREST[rule.nearest_mode](_compute_coordinates(axis, rule))
    found: NDArray[np.int64] = np.clip(cells, 0, axis.n - 1).astype(np.int64)
    return found


@functools.lru_cache(maxsize=256)
def _compute_weights(axis: Axis, rule: ResizeRule) -> Float64:
    """Return the weight of every input cell in every output cell: (m, n)."""
    at = _compute_coordinates(axis, rule)
    shrink = min(axis.scale, 1.0) if rule.antialias else 1.0
    reach = math.ceil((1 if rule.mode == "linear" else 2) / shrink)
    taps = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)  # (m, 2 reach)
    weights = _evaluate_kernel((taps - at[:, None]) * shrink, rule)
    if rule.exclude_outside:
        weights = np.where((taps < 0) | (taps > axis.n - 1), 0.0, weights)
    if rule.antialias or rule.exclude_outside:
        weights = weights / weights.sum(axis=1, keepdims=True)
    cells = np.clip(taps, 0, axis.n - 1).astype(np.int64)
    matrix = np.zeros((axis.m, axis.n))
    np.add.at(matrix, (np.arange(axis.m)[:, None], cells), weights)
    return matrix


def _evaluate_kernel(t: Float64, rule: ResizeRule) -> Float64:
    t = np.abs(t)
    if rule.mode == "linear":
        return np.maximum(0.0, 1 - t)
    a = rule.cubic_coeff_a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
