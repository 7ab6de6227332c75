"""A weighted node as a matrix product, at sampled positions.

y = W x + b with x (G, M, P) the inputs that P output positions see in each of G groups,
M = I/g kH kW for a Conv and the inner size for Gemm and MatMul; W (G, O/g, M); y (G, O/g, P).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfqonnx.convert.ops.window import padded, resolve
from dfqonnx.spec.sites import WeightSite


def is_matrix_product(site: WeightSite, attributes: Mapping[str, Any], weight: Tensor) -> bool:
    """Tell whether the node is a product of the kind this module can write down."""
    if site.op == "Conv":
        return weight.dim() == 4
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0
    inner_first = site.axis == (0 if attributes.get("transB") else 1)  # x W, not W x
    return weight.dim() == 2 and plain and inner_first and not attributes.get("transA")


class Positions:
    """P random output positions of one node, the same for every tensor of that batch.

    Args:
        site: the node.
        attributes: of the node.
        groups: 1 but for a grouped Conv.
        output: (N, O, H, W) of a Conv, or (..., O).
        count: P.
        generator: CPU randomness.
    """

    def __init__(
        self,
        site: WeightSite,
        attributes: Mapping[str, Any],
        output: Tensor,
        *,
        count: int,
        generator: torch.Generator,
    ) -> None:
        self.site, self.attributes = site, attributes
        self.groups = int(attributes.get("group", 1)) if site.op == "Conv" else 1
        self.shape = output.shape
        rows = output.numel() // output.shape[1 if site.op == "Conv" else -1]
        chosen = torch.randperm(rows, generator=generator)[:count]
        self.rows = chosen.to(output.device)  # (P,)

    def outputs(self, y: Tensor) -> Tensor:
        """Return y at the positions, (G, O/g, P)."""
        if self.site.op == "Conv":
            n, h, w = self._split()
            picked = y[n, :, h, w]  # (P, O)
        else:
            picked = y.flatten(0, -2)[self.rows]  # (P, O)
        return picked.t().reshape(self.groups, -1, len(self.rows))

    def inputs(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return what the positions see of `x`, (G, M, P)."""
        if self.site.op != "Conv":
            return x.flatten(0, -2)[self.rows].t()[None]
        names = ("strides", "pads", "dilations")
        given = {name: self.attributes.get(name) for name in names}
        window = resolve(
            tuple(x.shape[2:]),
            tuple(weight.shape[2:]),
            auto_pad=self.attributes.get("auto_pad", "NOTSET"),
            **given,
        )
        x = padded(x, window.begin, window.end)
        n, h, w = self._split()
        across = [torch.arange(k, device=x.device) * d for k, d in self._steps(window)]
        rows = h[:, None, None] * window.strides[0] + across[0][None, :, None]  # (P, kH, 1)
        columns = w[:, None, None] * window.strides[1] + across[1][None, None, :]  # (P, 1, kW)
        seen = x[n[:, None, None], :, rows, columns]  # (P, kH, kW, C)
        return seen.permute(3, 1, 2, 0).reshape(self.groups, -1, len(n))

    @staticmethod
    def _steps(window: Any) -> list[tuple[int, int]]:
        return list(zip(window.kernel, window.dilations, strict=True))

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        _, _, height, width = self.shape
        image, place = self.rows // (height * width), self.rows % (height * width)
        return image, place // width, place % width
