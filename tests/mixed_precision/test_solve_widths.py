"""The linear program against all choices one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dfqonnx.mixed_precision.solve_widths import Bounds, solve_widths
from dfqonnx.mixed_precision.width_problem import Option, Solution, WidthProblem


def draw_problem(seed: int) -> WidthProblem:
    """Five nodes of two or three options each, which share four quantizers."""
    rng = np.random.default_rng(seed)
    nodes = {}
    for number in range(5):
        options = []
        for width in range(int(rng.integers(2, 4))):
            count = int(rng.integers(0, 3))
            needs = [
                tuple(int(q) for q in rng.choice(4, int(rng.integers(1, 3)), replace=False))
                for _ in range(count)
            ]
            options.append(
                Option(
                    weights=2 + width,
                    activations=8,
                    noise=float(rng.random()),
                    bytes=float(rng.integers(100, 5000)),
                    seconds=float(rng.random()),
                    needs=tuple(needs),
                )
            )
        nodes[f"n{number}"] = options
    return WidthProblem(
        nodes=nodes,
        quantizer_noise=[float(value) for value in rng.random(4)],
        base_bytes=1000.0,
        float_bytes=50_000.0,
    )


def every_solution(problem: WidthProblem) -> list[Solution]:
    names = list(problem.nodes)
    found: list[Solution] = []
    for options in itertools.product(*problem.nodes.values()):
        needs = {need for option in options for need in option.needs}
        subsets = (c for size in range(5) for c in itertools.combinations(range(4), size))
        found += [
            Solution(
                chosen=dict(zip(names, options, strict=True)),
                noise=sum(o.noise for o in options)
                + sum(problem.quantizer_noise[q] for q in there),
                bytes=1000 + sum(o.bytes for o in options) + 150 * len(there),
                seconds=sum(o.seconds for o in options),
            )
            for there in subsets
            if all(set(there) & set(need) for need in needs)
        ]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_within_the_limits_has_less_noise(seed: int) -> None:
    problem = draw_problem(seed)
    every = every_solution(problem)
    most = float(np.quantile([s.bytes for s in every], 0.3))
    best = min(s.noise for s in every if s.bytes <= most)
    found = solve_widths(problem, Bounds(bytes=most), "noise")
    assert found is not None
    assert found.bytes <= most
    # the objective holds a thousandth of bytes and seconds, and HiGHS stops within its gap
    assert found.noise == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_with_that_little_noise_has_fewer_bytes(seed: int) -> None:
    problem = draw_problem(seed)
    every = every_solution(problem)
    most = float(np.quantile([s.noise for s in every], 0.1))
    best = min(s.bytes for s in every if s.noise <= most)
    found = solve_widths(problem, Bounds(noise=most), "bytes")
    assert found is not None
    assert found.noise <= most * (1 + 1e-6)
    assert found.bytes == pytest.approx(best, rel=0.02)


def test_limits_that_nothing_meets_have_no_solution() -> None:
    problem = draw_problem(0)
    least = min(s.bytes for s in every_solution(problem))
    assert solve_widths(problem, Bounds(bytes=least - 1), "noise") is None
    assert solve_widths(problem, Bounds(bytes=least, noise=0.0), "noise") is None


def test_of_a_need_with_a_choice_the_quantizer_with_less_noise_is_there() -> None:
    option = Option(activations=8, needs=((0, 1), (2,)))
    problem = WidthProblem(
        nodes={"n": [option]}, quantizer_noise=[3.0, 1.0, 0.5], base_bytes=0.0, float_bytes=1.0
    )
    assert Solution.of(problem, {"n": option}).noise == 1.5
    other = Option(activations=4, needs=((0,),))
    two = WidthProblem(
        nodes={"n": [option], "m": [other]},
        quantizer_noise=[3.0, 1.0, 0.5],
        base_bytes=0.0,
        float_bytes=1.0,
    )
    assert Solution.of(two, {"n": option, "m": other}).noise == 3.5
