"""Sample-difficulty promotion, where the harder image is known in closed form."""

from __future__ import annotations

import torch

from dfqonnx.distill.trainer import sample_difficulty_loss


def test_both_images_count_and_the_second_is_the_harder_one() -> None:
    w = torch.tensor([2.0, -3.0, 0.5], requires_grad=True)
    x = torch.tensor([[1.0, 1.0, 1.0], [0.0, -1.0, 2.0]])
    seen = []

    def loss(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.detach().clone())
        return (images @ w).square().mean()

    total = sample_difficulty_loss(x, loss, 0.1)
    residual = x @ w.detach()  # the gradient by an image is residual * w: its sign is known
    moved = x + 0.1 * (residual[:, None] * w.detach()).sign()
    torch.testing.assert_close(seen[0], x)
    torch.testing.assert_close(seen[1], moved)
    assert float((moved @ w.detach()).square().mean()) > float((x @ w.detach()).square().mean())
    total.backward()  # type: ignore[no-untyped-call]
    wanted = sum(2 * (i @ w.detach())[:, None] * i for i in (x, moved))
    torch.testing.assert_close(w.grad, torch.as_tensor(wanted).mean(0))
    assert not x.requires_grad
