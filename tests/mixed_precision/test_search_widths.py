"""What is repaired where eight bits do not suffice, against all choices one by one."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from dfqonnx.mixed_precision.build_problem import ProblemBuilder
from dfqonnx.mixed_precision.explain_choice import explain_choices
from dfqonnx.mixed_precision.search_widths import search_widths
from dfqonnx.mixed_precision.solve_widths import Bounds
from dfqonnx.mixed_precision.width_problem import Option, Solution, WidthProblem

COUNT = 5


@dataclass(frozen=True)
class Chain:
    """Layers that read a quantizer each, of 8 bits or of 16."""

    noise: tuple[float, ...]  # of the eight-bit quantizers
    work: tuple[float, ...]  # share of the multiply-adds

    def all_nodes(self) -> tuple[str, ...]:
        return tuple(f"n{k}" for k in range(COUNT))

    def worst_nodes(self, share: float, most: float) -> tuple[str, ...]:
        return (f"n{int(np.argmax(self.noise))}",)

    def build(self, repaired: Collection[str] = ()) -> WidthProblem:
        nodes = {}
        for k, name in enumerate(self.all_nodes()):
            cost = 1 / COUNT + self.work[k]
            options = [
                Option(weights=4, activations=8, noise=0.01, bytes=500, needs=((k,),)),
                Option(weights=8, activations=8, bytes=1000, needs=((k,),)),
            ]
            if name in repaired:
                options += [
                    Option(weights=4, activations=16, noise=0.01, bytes=500, repairs=cost),
                    Option(weights=8, activations=16, bytes=1000, repairs=cost),
                    Option(bytes=4000, repairs=cost),
                ]
            nodes[name] = tuple(options)
        return WidthProblem(
            nodes=nodes, quantizer_noise=self.noise, base_bytes=0.0, float_bytes=20_000.0
        )


def draw_chain(seed: int) -> Chain:
    rng = np.random.default_rng(seed)
    work = rng.random(COUNT)
    return Chain(
        noise=tuple(float(v) for v in 0.02 * rng.random(COUNT)),
        work=tuple(float(v) for v in work / work.sum()),
    )


def as_builder(chain: Chain) -> ProblemBuilder:
    return cast(ProblemBuilder, chain)


@pytest.mark.parametrize("seed", range(4))
def test_as_little_is_repaired_as_a_limited_noise_allows_and_then_bytes_are_fewest(
    seed: int,
) -> None:
    chain = draw_chain(seed)
    most = 0.4 * sum(chain.noise)
    problem = chain.build(chain.all_nodes())
    every = [
        Solution.of(problem, dict(zip(problem.nodes, options, strict=True)))
        for options in itertools.product(*problem.nodes.values())
    ]
    quiet = [each for each in every if each.noise <= most]
    fewest = min(each.repairs for each in quiet)
    smallest = min(each.bytes for each in quiet if each.repairs <= fewest + 1e-9)
    found = search_widths(as_builder(chain), Bounds(noise=most))
    assert found is not None
    assert found.solution.noise <= most * (1 + 1e-6)
    assert found.solution.repairs == pytest.approx(fewest, rel=1e-3)
    assert found.solution.bytes == pytest.approx(smallest, rel=0.02)


def test_nothing_is_repaired_where_eight_bits_suffice() -> None:
    chain = Chain(noise=(1e-4,) * COUNT, work=(0.2,) * COUNT)
    found = search_widths(as_builder(chain), Bounds(noise=1e-3))
    assert found is not None
    assert not found.repaired
    assert found.solution.repairs == 0


def test_the_reason_for_a_repair_is_what_eight_bits_would_cost() -> None:
    chain = Chain(noise=(0.5, *(1e-4,) * (COUNT - 1)), work=(0.2,) * COUNT)
    found = search_widths(as_builder(chain), Bounds(noise=1e-3))
    assert found is not None
    first = next(iter(explain_choices(found, {})))
    assert first.widths in {"w8a16", "float"}
    assert first.reason.startswith("w8a8 would add")
