"""The search: limits -> the best widths within them, or the nearest limits that can be met.

    drop limited            the fewest bytes
    else                    the least noise

Nodes are repaired (16 bits or float) where integers at their widest leave more noise than
`HOPELESS`, or than the limit:

    noise limited           as few as will do, counted as nodes and as multiply-adds; where these
                            are more than may be, `FEW`, with which the noise is least
    else                    the nodes of the fewest quantizers that make up `REPAIRED` of the noise;
                            all may be where that does not suffice
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from dfqonnx.errors import UsageError
from dfqonnx.mixed_precision.build_problem import ProblemBuilder
from dfqonnx.mixed_precision.solve_widths import Bounds, Measure, solve_widths
from dfqonnx.mixed_precision.width_problem import Solution, WidthProblem

HOPELESS = 10**-2.5  # noise over signal (25 dB): above it even eight bits are trained
REPAIRED = 0.9  # of the noise
MOST_REPAIRED = 0.1  # of the quantizers: what is repaired runs slower on most targets
EXTREMES: Mapping[Measure, str] = {"noise": "least", "bytes": "least", "seconds": "most"}
FEW = 0.2  # of the nodes and of the multiply-adds together: a tenth of both
SLACK = 1e-6  # of what may be repaired, for the solver's own tolerance


@dataclass(frozen=True, kw_only=True)
class FoundWidths:
    """A solution, the problem that it solves, and the nodes that could have been repaired."""

    solution: Solution
    problem: WidthProblem
    repaired: frozenset[str]


def search_widths(builder: ProblemBuilder, bounds: Bounds) -> FoundWidths | None:
    """Return the best widths within `bounds`; None where there are none."""
    least: Measure = "bytes" if bounds.noise is not None and bounds.bytes is None else "noise"
    if not _needs_repair(builder, bounds):
        problem = builder.build()
        found = solve_widths(problem, bounds, least)
        return None if found is None else _found(found, problem)
    if bounds.noise is not None:
        fewest = _repair_fewest(builder, bounds, least)
        if fewest is not None or bounds.repairs is None:
            return fewest
        few = replace(bounds, noise=None, repairs=FEW)
        nodes = builder.all_nodes()
        problem = builder.build(nodes)
        found = solve_widths(problem, few, "noise")
        return None if found is None else _found(found, problem, nodes)
    for nodes in (builder.worst_nodes(REPAIRED, MOST_REPAIRED), builder.all_nodes()):
        problem = builder.build(nodes)
        found = solve_widths(problem, bounds, least)
        if found is not None:
            return _found(found, problem, nodes)
    return None


def _needs_repair(builder: ProblemBuilder, bounds: Bounds) -> bool:
    """Return whether integers at their widest leave too much noise."""
    widest = solve_widths(builder.build(), Bounds(), "noise")
    assert widest is not None  # every node has an option
    return widest.noise > (HOPELESS if bounds.noise is None else min(HOPELESS, bounds.noise))


def _repair_fewest(builder: ProblemBuilder, bounds: Bounds, least: Measure) -> FoundWidths | None:
    """Return the best widths of those that repair as little as limits allow."""
    nodes = builder.all_nodes()
    problem = builder.build(nodes)
    fewest = solve_widths(problem, bounds, "repairs")
    if fewest is None:
        return None
    most = fewest.repairs * (1 + SLACK) + SLACK
    found = solve_widths(problem, replace(bounds, repairs=most), least)
    return _found(found or fewest, problem, nodes)


def _found(
    solution: Solution, problem: WidthProblem, repaired: Collection[str] = ()
) -> FoundWidths:
    return FoundWidths(solution=solution, problem=problem, repaired=frozenset(repaired))


def find_fastest(builder: ProblemBuilder, bounds: Bounds) -> FoundWidths | None:
    """Return the widths of the least seconds within the other limits; None where there are none."""
    nodes = builder.all_nodes() if _needs_repair(builder, bounds) else ()
    problem = builder.build(nodes)
    found = solve_widths(problem, replace(bounds, seconds=None), "seconds")
    return None if found is None else _found(found, problem, nodes)


@dataclass(frozen=True, kw_only=True)
class NearestLimits:
    """The least of each measure that can be had, alone and beside the other limit."""

    alone: Solution | None
    beside: Solution | None


def find_nearest(builder: ProblemBuilder, bounds: Bounds, which: Measure) -> NearestLimits:
    """Return the solutions with the least of one measure: without other limits, and with them.

    They are among those that the search chooses from.
    """
    problem = builder.build(builder.all_nodes() if _needs_repair(builder, bounds) else ())
    return NearestLimits(
        alone=solve_widths(problem, Bounds(), which),
        beside=solve_widths(problem, replace(bounds, **{which: None}), which),
    )


@dataclass(frozen=True)
class LimitWords:
    """Says a measure of a solution in the words of the option that limits it."""

    limits: Mapping[Measure, str]  # each as it was given
    float_bytes: float
    float_seconds: float
    drop: Callable[[float], float]  # of a noise, in points

    @property
    def text(self) -> str:
        """All limits."""
        return " ".join(self.limits.values()) or "--bits auto"

    def tell_others(self, measure: Measure) -> str:
        """Return the limits of other measures."""
        return " ".join(text for which, text in self.limits.items() if which != measure)

    def tell(self, measure: Measure, found: Solution) -> str:
        """Return the option with the value that a solution has."""
        if measure == "bytes":
            ratio = found.bytes / self.float_bytes
            return f"--max-size {ratio + 5e-4:.3f}x ({found.bytes / 1024:.1f} KiB)"
        if measure == "seconds":
            return f"--min-speed {self.float_seconds / max(found.seconds, 1e-12):.2f}x"
        return f"--max-drop {self.drop(found.noise) + 5e-3:.2f}"


def refuse(builder: ProblemBuilder, bounds: Bounds, words: LimitWords) -> UsageError:
    """Return the error of limits that no widths meet, with the nearest that some do."""
    asked: dict[Measure, float | None] = {
        "noise": bounds.noise, "bytes": bounds.bytes, "seconds": bounds.seconds,
    }  # fmt: skip
    limited = {measure: most for measure, most in asked.items() if most is not None}
    nearest = {measure: find_nearest(builder, bounds, measure) for measure in limited}
    lines = [
        f"the {EXTREMES[measure]} possible is {words.tell(measure, found.alone)}"
        for measure, found in nearest.items()
        if found.alone is not None and _of(found.alone, measure) > limited[measure]
    ]
    if not lines:
        lines = [
            f"with {words.tell_others(measure)} the {EXTREMES[measure]} is"
            f" {words.tell(measure, found.beside)}"
            for measure, found in nearest.items()
            if found.beside is not None
        ]
    return UsageError(f"{words.text}: no widths meet this; {'; '.join(lines)}")


def _of(found: Solution, measure: Measure) -> float:
    return float(getattr(found, measure))
