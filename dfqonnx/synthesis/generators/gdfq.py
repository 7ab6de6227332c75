"""The generator of GDFQ, which DFQF and most later methods share.

    z [* class embedding] -> Linear 128 (H/4)(W/4) -> BN -> x2 -> Conv 128, BN, LeakyReLU
      -> x2 -> Conv 64, BN, LeakyReLU -> Conv C -> tanh -> BN without affine

Convolutions are 3x3, LeakyReLU 0.2, the two inner BatchNorms have eps 0.8.

`gdfq` is told its class: z times a learned embedding of it, element by element. `dfqf` is the same
network with DFQF's initialization: Conv N(0, 0.02), BatchNorm scale N(1, 0.02), biases 0.

Sources: Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020; Li et al., "DFQF:
Data Free Quantization-aware Fine-tuning", ACML 2020.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dfqonnx.synthesis.generators.architecture import GENERATORS, GeneratorShape, Upsample

SLOPE, EPS = 0.2, 0.8
After = Callable[[int, tuple[int, int]], nn.Module]


def _identity(channels: int, size: tuple[int, int]) -> nn.Module:
    return nn.Identity()


class Gdfq(nn.Module):
    """The network; `after` makes what follows each enlarged stage of given channels and size."""

    def __init__(self, shape: GeneratorShape, *, after: After = _identity) -> None:
        super().__init__()
        wide, narrow = shape.scaled(128), shape.scaled(64)
        self._first = (wide, *shape.halved(2))
        self.embedding = nn.Embedding(shape.classes, shape.latent) if shape.classes else None
        height, width = shape.halved(2)
        self.linear = nn.Linear(shape.latent, wide * height * width)
        middle, full = shape.halved(1), (shape.height, shape.width)
        self.body = nn.Sequential(
            nn.BatchNorm2d(wide),
            Upsample(middle),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.BatchNorm2d(wide, eps=EPS),
            nn.LeakyReLU(SLOPE, inplace=True),
            after(wide, middle),
            Upsample(full),
            nn.Conv2d(wide, narrow, 3, padding=1),
            nn.BatchNorm2d(narrow, eps=EPS),
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
        images: Tensor = self.body(self.linear(z).view(-1, *self._first))
        return images


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
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return network
