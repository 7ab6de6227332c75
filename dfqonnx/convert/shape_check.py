"""One pass without numbers: does every operator accept the shapes that reach it?

Shape inference misses much that fails in an execution (a bias of the wrong length, a
weight whose groups do not fit). Two images of torch's `meta` device, which has shapes and types but
no data, find that in milliseconds, before anything slow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.errors import Offense, UnsupportedModel

_IMAGES = 2
_MISFITS = (RuntimeError, ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError)


def check_shapes(program: Program, shape: tuple[int, ...]) -> None:
    """Pass images of `shape` (C, H, W), or features, through the program.

    UnsupportedModel names the first node that does not accept what reaches it.
    """
    values: dict[str, Tensor] = {
        name: torch.zeros(_IMAGES, *shape, device="meta") for name in program.inputs
    }
    for step in program.steps:
        if any(name not in values and name not in program.tensors for name in step.reads()):
            continue  # behind something that only data decide
        try:
            found = _execute(step, program, values)
        except NotImplementedError:
            continue  # the sizes of its outputs depend on data
        except _MISFITS as error:
            raise UnsupportedModel(
                "the shapes of this model do not fit together:",
                [Offense(step.node, step.op, _reason(error), "export it again")],
            ) from None
        computed = zip(step.outputs, found, strict=False)
        values.update({name: value for name, value in computed if name is not None})


@torch.no_grad()
def _execute(step: OpCall, program: Program, values: dict[str, Tensor]) -> tuple[Tensor, ...]:
    on_host = program.runs_on_host(step)

    def place(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) and not on_host else value

    arguments: list[Tensor | None] = []
    for position, name in enumerate(step.inputs):
        value = None if name is None else values.get(name, program.tensors.get(name))
        if value is not None and value.is_meta and position in step.host:
            raise NotImplementedError  # as the meta device itself says that data decide
        arguments.append(value if position in step.host else place(value))
    attributes = {name: place(value) for name, value in step.attributes.items()}
    return replace(step, attributes=attributes).evaluate(arguments)


def _reason(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    return f"it does not accept what reaches it: {text}"
