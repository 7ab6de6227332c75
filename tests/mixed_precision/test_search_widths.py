"""What is repaired where eight bits do not suffice, against all choices one by one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import pytest

from dfqonnx.mixed_precision.build_problem import ProblemBuilder
from dfqonnx.mixed_precision.explain_choice import explain_choices
from dfqonnx.mixed_precision.search_widths import FEW, LimitWords, refuse, search_widths
from dfqonnx.mixed_precision.solve_widths import Bounds, Measure
from dfqonnx.mixed_precision.width_problem import Option, Solution, WidthProblem

COUNT = 5


@dataclass(frozen=True)
class Chain:
    """Layers that read a quantizer each, of 8 bits or of 16."""

    noise: tuple[float, ...]  # of the eight-bit quantizers
    work: tuple[float, ...]  # share of the multiply-adds
    seconds: float = 0.0  # of each layer
    count_share: float = 1 / COUNT  # of all nodes, each
    float_factor: float = 2.0  # of those, where a layer is repaired

    def all_nodes(self) -> tuple[str, ...]:
        return tuple(f"n{k}" for k in range(COUNT))

    def worst_nodes(self, share: float, most: float) -> tuple[str, ...]:
        return (f"n{int(np.argmax(self.noise))}",)

    def build(self, repaired: Collection[str] = ()) -> WidthProblem:
        nodes = {}
        for k, name in enumerate(self.all_nodes()):
            cost = self.count_share + self.work[k]
            eight = partial(Option, activations=8, needs=((k,),), seconds=self.seconds)
            options = [eight(weights=4, noise=0.01, bytes=500), eight(weights=8, bytes=1000)]
            if name in repaired:
                other = partial(Option, repairs=cost, seconds=self.float_factor * self.seconds)
                options += [
                    other(weights=4, activations=16, noise=0.01, bytes=500),
                    other(weights=8, activations=16, bytes=1000),
                    other(bytes=4000),
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


def test_where_more_would_be_repaired_than_may_be_few_are_and_the_noise_is_least() -> None:
    chain = Chain(noise=draw_chain(1).noise, work=(0.7, 0.29, 0.005, 0.003, 0.002))
    chain = replace(chain, count_share=0.05)
    assert search_widths(as_builder(chain), Bounds(noise=1e-6)) is not None
    found = search_widths(as_builder(chain), Bounds(noise=1e-6, repairs=1.0))
    assert found is not None
    problem = chain.build(chain.all_nodes())
    every = [
        Solution.of(problem, dict(zip(problem.nodes, options, strict=True)))
        for options in itertools.product(*problem.nodes.values())
    ]
    least = min(each.noise for each in every if each.repairs <= FEW)
    assert 0 < found.solution.repairs <= FEW
    assert found.solution.noise == pytest.approx(least, rel=0.02)


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


def test_limits_that_exclude_each_other_are_told_with_what_goes_with_each() -> None:
    chain = Chain(noise=(0.01,) * COUNT, work=(0.2,) * COUNT)
    limits = {"noise": "--max-drop 0.01", "bytes": "--max-size 3000"}
    words = LimitWords(cast(Mapping[Measure, str], limits), 20_000.0, 0.0, lambda noise: noise)
    # eight bits of activations leave 0.05, and 3000 bytes have no room for five layers of 16
    told = str(refuse(as_builder(chain), Bounds(noise=0.04, bytes=3000.0), words))
    assert told.startswith("max_drop 0.01 max_size 3000: no widths meet this; ")
    assert "with max_size 3000 the least is max_drop " in told
    assert "with max_drop 0.01 the least is max_size " in told


def test_the_most_speed_is_that_of_widths_that_the_search_chooses_from() -> None:
    # in float each layer would be twice as fast, but eight bits lose too little for a repair
    chain = Chain(noise=(1e-5,) * COUNT, work=(0.2,) * COUNT, seconds=0.1, float_factor=0.5)
    words = LimitWords(
        {"noise": "--max-drop 1", "seconds": "--min-speed 3x"}, 20_000.0, 1.0, lambda noise: noise
    )
    assert search_widths(as_builder(chain), Bounds(noise=1e-3, seconds=1.0 / 3)) is None
    told = str(refuse(as_builder(chain), Bounds(noise=1e-3, seconds=1.0 / 3), words))
    assert told.endswith("the most possible is min_speed 2.00x")


def test_a_speed_that_is_out_of_reach_is_told_with_the_most_there_is() -> None:
    chain = Chain(noise=(0.01,) * COUNT, work=(0.2,) * COUNT, seconds=0.1)
    words = LimitWords({"seconds": "--min-speed 8x"}, 20_000.0, 1.0, lambda noise: noise)
    told = str(refuse(as_builder(chain), Bounds(seconds=1.0 / 8), words))
    assert told == "min_speed 8x: no widths meet this; the most possible is min_speed 2.00x"
