"""The best option for every node within limits: an integer linear program, solved by HiGHS.

    x_no in {0, 1}    node n takes option o            sum_o x_no = 1
    z_q  in [0, 1]    quantizer q is there             sum_q z_q >= x_no  for those that it needs

    noise    sum x_no noise_no + sum z_q noise_q       and bytes and seconds alike

What is not limited is made as small as possible: bytes where the drop is limited, else noise.
Noises of single quantizers add up because rounding errors are independent of each other and small
(`mixed_precision/second_order`); HiGHS is `scipy.optimize.milp` (Huangfu and Hall, "Parallelizing
the dual revised simplex method", 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.native_lines import without_native_lines
from dfqonnx.mixed_precision.width_problem import (
    QUANTIZER_BYTES,
    Option,
    Solution,
    WidthProblem,
)

Measure = Literal["noise", "bytes", "seconds", "repairs"]
SLIGHT = 1e-3  # of the other measures, so that of equal choices the better one is made
SECONDS = 20.0  # that HiGHS may take; what it has found by then is within `GAP` as a rule
GAP = 1e-4  # relative, of the objective
STRAY = b"HighsMipSolverData::"  # a line that some versions of HiGHS print whatever they are told
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most of each measure; None leaves it open."""

    noise: float | None = None
    bytes: float | None = None
    seconds: float | None = None
    repairs: float | None = None


@dataclass(frozen=True)
class _Columns:
    """The variables: options of nodes one after the other, then quantizers."""

    options: Sequence[tuple[str, Option]]
    quantizers: int

    def measure(self, problem: WidthProblem, which: Measure) -> Floats:
        """Return what each variable adds to a measure."""
        own = [getattr(option, which) for _, option in self.options]
        rest: Sequence[float] = [0.0] * self.quantizers
        if which == "noise":
            rest = problem.quantizer_noise
        elif which == "bytes":
            rest = [float(QUANTIZER_BYTES)] * self.quantizers
        return np.array([*own, *rest], np.float64)

    def widths(self) -> Floats:
        """Return bits read times multiply-adds of each variable."""
        own = [option.width for _, option in self.options]
        return np.array([*own, *[0.0] * self.quantizers], np.float64)


def solve_widths(problem: WidthProblem, bounds: Bounds, least: Measure) -> Solution | None:
    """Return the solution within `bounds` with the least of one measure; None where there is none.

    Of nearly equal ones it has less of the other measures and reads fewer bits.
    """
    from scipy.optimize import Bounds as Box
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import csr_array

    columns = _Columns(
        [(name, option) for name, options in problem.nodes.items() for option in options],
        len(problem.quantizer_noise),
    )
    rows = _make_constraints(problem, columns, bounds)
    count = len(columns.options) + columns.quantizers
    places = np.array(rows.rows), np.array(rows.columns)
    matrix = csr_array((np.array(rows.factors), places), shape=(len(rows.low), count))
    whole = np.array([1] * len(columns.options) + [0] * columns.quantizers)
    with without_native_lines(STRAY):
        found = milp(
            _make_objective(problem, columns, least),
            integrality=whole,
            bounds=Box(np.zeros(count), np.ones(count)),
            constraints=LinearConstraint(matrix, rows.low, rows.high),
            options={"time_limit": SECONDS, "mip_rel_gap": GAP},
        )
    if found.x is None:
        return None
    taken = np.flatnonzero(found.x[: len(columns.options)] > 0.5)
    return Solution.of(problem, dict(columns.options[int(index)] for index in taken))


def _make_objective(problem: WidthProblem, columns: _Columns, least: Measure) -> Floats:
    """Return the objective: one measure, and a little of the others."""
    measures: tuple[Measure, ...] = ("noise", "bytes", "seconds")
    total = _to_unit(columns.measure(problem, least))
    for which in measures:
        if which != least:
            total = total + SLIGHT * _to_unit(columns.measure(problem, which))
    return total + _to_unit(columns.widths())


def _to_unit(values: Floats) -> Floats:
    """Return values over their median among those that are not 0, so that solvers see numbers."""
    there = values[values > 0]
    return values / np.median(there) if len(there) else values


@dataclass(kw_only=True)
class _Rows:
    """Linear constraints, one after the other."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(
        self, columns: Sequence[int], factors: Sequence[float], low: float, high: float
    ) -> None:
        """Require that a sum of variables lies from `low` to `high`."""
        self.rows += [len(self.low)] * len(columns)
        self.columns += columns
        self.factors += factors
        self.low.append(low)
        self.high.append(high)


def _make_constraints(problem: WidthProblem, columns: _Columns, bounds: Bounds) -> _Rows:
    """Return all constraints."""
    rows, by_node = _Rows(), dict[str, list[int]]()
    for index, (name, _) in enumerate(columns.options):
        by_node.setdefault(name, []).append(index)
    for indices in by_node.values():
        rows.add(indices, [1.0] * len(indices), 1.0, 1.0)
    first = len(columns.options)
    for index, (_, option) in enumerate(columns.options):
        for need in option.needs:
            there = [first + quantizer for quantizer in need]
            rows.add([*there, index], [*[1.0] * len(there), -1.0], 0.0, np.inf)
    limits: tuple[tuple[Measure, float | None, float], ...] = (
        ("noise", bounds.noise, 0.0),
        ("bytes", bounds.bytes, problem.base_bytes),
        ("seconds", bounds.seconds, problem.base_seconds),
        ("repairs", bounds.repairs, 0.0),
    )
    for which, most, base in limits:
        if most is not None:
            each = columns.measure(problem, which)
            unit = max(abs(most - base), 1e-12)
            rows.add(list(range(len(each))), list(each / unit), -np.inf, (most - base) / unit)
    return rows
