"""The generator of GDFQ, which DFQF and most later methods share.

    z [* class embedding] -> Linear 128 (H/4)(W/4) -> BN -> x2 -> Conv 128, BN, LeakyReLU
      -> x2 -> Conv 64, BN, LeakyReLU -> Conv C -> tanh -> BN without affine

Convolutions are 3x3, LeakyReLU 0.2, the two inner BatchNorms have eps 0.8.

`gdfq` is told its class: z times a learned embedding of it, element by element. Of more than `MANY`
classes, as on ImageNet, the three BatchNorms have a scale and a bias for every class instead, which
begin at 1 and 0. `dfqf` is the same network with DFQF's initialization: Conv N(0, 0.02), BatchNorm
scale N(1, 0.02) and bias 0.

Sources: Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020; Li et al., "DFQF:
Data Free Quantization-aware Fine-tuning", ACML 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dfqonnx.synthesis.generators.architecture import GENERATORS, GeneratorShape, Upsample

SLOPE, EPS = 0.2, 0.8
MANY = 100  # classes that a vector of theirs still tells apart
After = Callable[[int, tuple[int, int]], nn.Module]


def _identity(channels: int, size: tuple[int, int]) -> nn.Module:
    return nn.Identity()


class Gdfq(nn.Module):
    """The network; `after` makes what follows each enlarged stage of given channels and size."""

    def __init__(self, shape: GeneratorShape, *, after: After = _identity) -> None:
        super().__init__()
        wide, narrow = shape.scaled(128), shape.scaled(64)
        self._first = (wide, *shape.halved(2))
        few = 0 < shape.classes <= MANY
        self.embedding = nn.Embedding(shape.classes, shape.latent) if few else None
        by_class = shape.classes if shape.classes > MANY else 0
        height, width = shape.halved(2)
        self.linear = nn.Linear(shape.latent, wide * height * width)
        middle, full = shape.halved(1), (shape.height, shape.width)
        self.body = nn.Sequential(
            _normalization(wide, by_class),
            Upsample(middle),
            nn.Conv2d(wide, wide, 3, padding=1),
            _normalization(wide, by_class, eps=EPS),
            nn.LeakyReLU(SLOPE, inplace=True),
            after(wide, middle),
            Upsample(full),
            nn.Conv2d(wide, narrow, 3, padding=1),
            _normalization(narrow, by_class, eps=EPS),
            nn.LeakyReLU(SLOPE, inplace=True),
            after(narrow, full),
            nn.Conv2d(narrow, shape.channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(shape.channels, affine=False),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) for z (B, latent)."""
        if self.embedding is not None and labels is not None:
            z = z * self.embedding(labels)
        for module in self.body:
            if isinstance(module, ClassBatchNorm):
                module.asked = labels
        images: Tensor = self.body(self.linear(z).view(-1, *self._first))
        return images


class ClassBatchNorm(nn.Module):
    """BatchNormalization with a scale and a bias for every class."""

    def __init__(self, channels: int, classes: int, *, eps: float) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.scale = nn.Parameter(torch.ones(classes, channels))
        self.bias = nn.Parameter(torch.zeros(classes, channels))
        self.asked: Tensor | None = None  # (B,) classes of the next batch

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) normalized, scaled and shifted as each image's class is."""
        assert self.asked is not None  # a conditional generator is given labels
        scale, bias = self.scale[self.asked], self.bias[self.asked]  # (B, C)
        normal: Tensor = self.normalization(x)
        return normal * scale[:, :, None, None] + bias[:, :, None, None]


def _normalization(channels: int, classes: int, *, eps: float = 1e-5) -> nn.Module:
    if classes:
        return ClassBatchNorm(channels, classes, eps=eps)
    return nn.BatchNorm2d(channels, eps=eps)


@GENERATORS.add("gdfq")
def gdfq(shape: GeneratorShape) -> nn.Module:
    """Return GDFQ's generator."""
    return Gdfq(shape)


@GENERATORS.add("dfqf")
def dfqf(shape: GeneratorShape) -> nn.Module:
    """Return the same network as DFQF begins it."""
    network = Gdfq(shape)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
    return network
