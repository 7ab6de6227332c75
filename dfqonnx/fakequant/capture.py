"""Looking at activations while a network runs.

`capture` shows what modules of a student read and make, for as long as its block lasts.
`ProgramValues` returns values of a float program by name; `Observer` shows one where it is made,
without keeping it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program

Module = TypeVar("Module", bound=nn.Module)
Inputs = tuple[Tensor, ...]


@contextmanager
def capture(
    modules: Iterable[Module],
    *,
    before: Callable[[Module, Inputs], None] | None = None,
    after: Callable[[Module, Inputs, Tensor], None] | None = None,
) -> Iterator[None]:
    """Call functions around every call of `modules` within the block.

    `before` is given a module and its inputs before it runs, `after` these and its output.
    """
    with ExitStack() as hooks:
        for module in modules:
            if before is not None:
                hooks.callback(module.register_forward_pre_hook(before).remove)
            if after is not None:
                hooks.callback(module.register_forward_hook(after).remove)
        yield


class Observer(nn.Module):
    """Shows a value to a function and passes it on, see `ProgramModule.after`."""

    def __init__(self, observe: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._observe = observe

    def forward(self, value: Tensor) -> Tensor:
        """Return `value`."""
        self._observe(value)
        return value


class ProgramValues:
    """Reads values of a float program by name; only what leads to them is computed."""

    def __init__(self, program: Program, names: Iterable[str], device: torch.device) -> None:
        taps = dict.fromkeys(names)
        self._module = ProgramModule(program, taps=taps, outputs=(), channels_last=True).to(device)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Return the values for model inputs `x`."""
        values: dict[str, Tensor] = self._module(x)[1]
        return values
