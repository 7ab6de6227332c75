"""Gates: rules that a user sets for a result, such as `drop<=1.0`.

    rule   := metric operator number [unit]         blanks are allowed between the parts
    metric := one of the table

| metric | meaning | units | operators |
| --- | --- | --- | --- |
| drop | teacher's top-1 minus the student's in points; needs labels | points, pp | < <= > >= |
| estimated_drop | the same, estimated without labels | points, pp | < <= > >= |
| top1 | the student's accuracy in percent; needs labels | % | < <= > >= |
| agreement | share of images with the teacher's class, 0..1 | % | < <= > >= |
| estimated_agreement | the same on real inputs, estimated without any | % | < <= > >= |
| sqnr | what varies in the worst output over its quantization noise, in decibels | dB | < <= > >= |
| psnr | peak signal to noise ratio of pictures to the float model's, in decibels | dB | < <= > >= |
| iou | another name of fidelity_miou | % | < <= > >= |
| size | size of the student's file | x or % of the float file's, B, KB, KiB, MB, MiB | all |
| speedup | the teacher's latency over the student's | x | < <= > >= |
| float_nodes | number of nodes that the runtime runs in float | | all |
| map50, map | average precision of boxes against labels (COCO), 0..1 | % | < <= > >= |
| miou | mean intersection over union of masks with labels, 0..1 | % | < <= > >= |
| characters, lines | shares read as labeled, 0..1 | % | < <= > >= |
| fidelity_NAME | any of these five with the float model's own results as truth | % | < <= > >= |
| mae, correlation | distance of values to the float model's; correlation with them | | < <= > >= |
| ssim | structural similarity of pictures to the float model's, up to 1 | % | < <= > >= |
| label_NAME | mae, correlation, psnr or ssim against labels | | < <= > >= |
| a number that `--metric` returns | | | < <= > >= |

A rule holds the student's number. NAME.drop is how much worse it is than the float model's, in the
measure's own unit, whichever direction is better: `map50.drop<=0.01`, `wer.drop<=0.02`. Measures
that compare with the float model itself have no drop.

`==` and `!=` are for counted, not for estimated quantities. Rules are read before any slow work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from dfqonnx.errors import UsageError, did_you_mean

Operator = Literal["<=", ">=", "==", "!=", "<", ">"]
Quantity = Literal[
    "drop", "estimated_drop", "top1", "agreement", "estimated_agreement", "sqnr", "size", "bytes",
    "speedup", "float_nodes",
]  # fmt: skip
FILE_QUANTITIES = frozenset[Quantity]({"size", "bytes", "speedup", "float_nodes"})
ESTIMATED_QUANTITIES = frozenset[Quantity]({"estimated_drop", "estimated_agreement"})
LABELED_QUANTITIES = frozenset[Quantity]({"drop", "top1"})  # of those about accuracy
EXAMPLE = "drop<=1.0"

_OPERATORS: tuple[Operator, ...] = ("<=", ">=", "==", "!=", "<", ">")
_BOUNDS: tuple[Operator, ...] = ("<=", ">=", "<", ">")
_MISSPELLED: Mapping[str, Operator] = {
    "=": "==", "=<": "<=", "=>": ">=", "≤": "<=", "≥": ">=", "≠": "!=", "<>": "!=", "===": "==",
}  # fmt: skip
_PART = re.compile(r"\s*([A-Za-z_][\w.-]*)?\s*([<>=!≤≥≠]+)?\s*([-+]?[\d.,]+(?:[eE][-+]?\d+)?)?\s*")


@dataclass(frozen=True)
class _Metric:
    """How a metric is written: `units` maps a unit to its factor to the unit of the bound."""

    units: Mapping[str, float]
    operators: tuple[Operator, ...] = _BOUNDS
    largest: float | None = None
    is_count: bool = False


_BYTES = {"B": 1.0, "KB": 1e3, "KiB": 2.0**10, "MB": 1e6, "MiB": 2.0**20}
METRICS: Mapping[str, _Metric] = {
    "drop": _Metric({"": 1, "points": 1, "pp": 1}, largest=100),
    "estimated_drop": _Metric({"": 1, "points": 1, "pp": 1}, largest=100),
    "top1": _Metric({"": 1, "%": 1}, largest=100),
    "agreement": _Metric({"": 1, "%": 0.01}, largest=1),
    "estimated_agreement": _Metric({"": 1, "%": 0.01}, largest=1),
    "sqnr": _Metric({"": 1, "dB": 1}),
    "psnr": _Metric({"": 1, "dB": 1}),
    "iou": _Metric({"": 1, "%": 0.01}, largest=1),
    "size": _Metric({"x": 1, "%": 0.01, **_BYTES}, _OPERATORS),
    "speedup": _Metric({"": 1, "x": 1}),
    "float_nodes": _Metric({"": 1}, _OPERATORS, is_count=True),
}

_MEASURED = {"psnr": "psnr", "iou": "fidelity_miou"}  # the measure that a rule about it is about
_SHARE = _Metric({"": 1, "%": 0.01}, largest=1)
_LABELED_SHARES = ("map50", "map", "miou", "characters", "lines")
_DISTANCES = {
    "mae": _Metric({"": 1}),
    "correlation": _Metric({"": 1}, largest=1),
    "ssim": _SHARE,
    "psnr": METRICS["psnr"],
}
MEASURES: Mapping[str, _Metric] = {  # of tasks, by name; see `evaluation/measures`
    **dict.fromkeys(_LABELED_SHARES, _SHARE),
    **{f"fidelity_{name}": _SHARE for name in _LABELED_SHARES},
    **{name: metric for name, metric in _DISTANCES.items() if name != "psnr"},
    **{f"label_{name}": metric for name, metric in _DISTANCES.items()},
}
DROP, LABEL_PREFIX = ".drop", "label_"
_ELSEWHERE = {  # what others call a metric -> its name here
    **dict.fromkeys(("accuracy", "acc", "accuracy_top_1", "top-1", "top_1"), "top1"),
    **dict.fromkeys(("accuracy_loss", "accuracy_drop", "loss", "degradation"), "drop"),
    **dict.fromkeys(("latency", "speed", "latency_ms"), "speedup"),
    **dict.fromkeys(("snr", "sqnr_db"), "sqnr"),
}
_HAVE_DROP = ("top1", *_LABELED_SHARES, *(f"label_{name}" for name in _DISTANCES))
_MAY_BE_NEGATIVE = {"drop", "estimated_drop", "sqnr", "psnr", "correlation", "ssim"} | {
    "label_correlation",
    "label_ssim",
    "label_psnr",
}
_CUSTOM = _Metric({"": 1, "%": 0.01})


@dataclass(frozen=True)
class MeasureRef:
    """A measure of a task, or a number that `--metric` returns."""

    name: str
    is_drop: bool = False  # whether it is about how much worse the student is
    is_custom: bool = False  # whether `--metric` returns it

    @property
    def needs_labels(self) -> bool:
        """Whether it compares with labels; what `--metric` returns is taken to do so."""
        known = self.name in _HAVE_DROP or self.name.startswith(LABEL_PREFIX)
        return self.is_custom or known


@dataclass(frozen=True)
class GateRule:
    """A rule that a result must meet.

    `size` is a ratio, `bytes` a number of bytes; the bound is in points, percent (top1), 0..1
    (agreement, miou), decibels, a ratio, bytes or nodes, and in a measure's own unit.
    """

    text: str  # as written, without blanks
    quantity: Quantity | MeasureRef
    operator: Operator
    bound: float

    @property
    def measure(self) -> MeasureRef | None:
        """The measure that the rule is about; None for the other quantities."""
        return self.quantity if isinstance(self.quantity, MeasureRef) else None


def parse_gates(texts: Iterable[str | GateRule], *, custom: bool = False) -> tuple[GateRule, ...]:
    """Parse every text; rules that are already parsed are kept.

    With `custom` any other name is that of a number which `--metric` returns.

    Raises:
        UsageError: a rule cannot be parsed; the message points at the character.
    """
    return tuple(
        text if isinstance(text, GateRule) else parse_gate(text, custom=custom) for text in texts
    )


def parse_gate(text: str, *, custom: bool = False) -> GateRule:
    """Parse one rule.

    >>> parse_gate("agreement >= 97%")
    GateRule(text='agreement>=97%', quantity='agreement', operator='>=', bound=0.97)

    Raises:
        UsageError: the rule cannot be parsed; the message points at the character.
    """
    parts = _PART.match(text)
    assert parts is not None  # every part is optional
    name, operator = _read_metric(text, parts, custom), _read_operator(text, parts)
    number, metric = _read_number(text, parts), _find_metric(name)
    at = parts.end()
    unit = text[at:].strip()
    if unit not in metric.units:
        raise _error(text, (at, max(1, len(unit))), *_explain_unit(name, unit, metric))
    start = parts.start(3)
    bound = number * metric.units[unit]
    if operator not in metric.operators:
        words = f"{name} is measured with an interval, so {operator} cannot be decided"
        raise _error(text, (parts.start(2), 2), words, f"Use one of: {' '.join(metric.operators)}")
    if metric.largest is not None and abs(bound) > metric.largest:
        hint = " or 97%" if metric.units.get("%") == 0.01 else ""
        words = f"{name} is at most {metric.largest:g}"
        example = 0.97 if hint else 91 if name == "top1" else 1.0
        raise _error(text, (start, len(parts[3])), words, f"Write for example {example:g}{hint}")
    may_be_negative = name in _MAY_BE_NEGATIVE or name.endswith(DROP) or metric is _CUSTOM
    if bound < 0 and not may_be_negative:
        raise _error(text, (start, len(parts[3])), f"{name} is never negative", "Give 0 or more")
    if metric.is_count and bound != int(bound):
        raise _error(text, (start, len(parts[3])), f"{name} is a count", "Give a whole number")
    quantity: Quantity | MeasureRef
    if name in _MEASURED:
        quantity = MeasureRef(_MEASURED[name])
    elif name in METRICS:
        quantity = _quantity(name, unit)
    else:
        quantity = MeasureRef(name.removesuffix(DROP), name.endswith(DROP), metric is _CUSTOM)
    return GateRule("".join(text.split()), quantity, operator, bound)


def _find_metric(name: str) -> _Metric:
    """Return how a metric is written; those of `--metric` are plain numbers or percent."""
    base = name.removesuffix(DROP)
    if name == base:
        return METRICS.get(name) or MEASURES.get(name) or _CUSTOM
    known = METRICS["drop"] if base == "top1" else MEASURES.get(base)
    return _CUSTOM if known is None else _Metric(known.units, largest=known.largest)


def _read_metric(text: str, parts: re.Match[str], custom: bool) -> str:
    name = parts[1] or ""
    base = name.removesuffix(DROP)
    if name in METRICS or name in MEASURES or (base != name and base in _HAVE_DROP):
        return name
    if base != name and (base in MEASURES or base in METRICS):
        words = f"{base} has no drop, because it compares with the float model or counts"
        have = f"These have one: {', '.join(_HAVE_DROP)}"
        raise _error(text, (parts.start(1), len(name)), words, have)
    if custom and base:
        return name
    at = parts.start(1) if name else len(text) - len(text.lstrip())
    if not name:
        found = f"starts with {text.strip()[0]!r}" if text.strip() else "is empty"
        raise _error(
            text, (at, 1), f"a rule begins with a metric, this one {found}", _list_metrics()
        )
    meant = _ELSEWHERE.get(name.lower(), "")
    hint = did_you_mean(name.lower(), [*METRICS, *MEASURES], preferred=meant, label="")
    raise _error(text, (at, len(name)), f"unknown metric {name!r}{hint}", _list_metrics())


def _read_operator(text: str, parts: re.Match[str]) -> Operator:
    found = parts[2] or ""
    for operator in _OPERATORS:
        if found == operator:
            return operator
    usual = f"Operators: {' '.join(_OPERATORS)}"
    if not found:
        at = parts.end(1)
        if at == len(text.rstrip()):
            quotes = (
                f"quote the whole rule, because the shell interprets < and >: --gate '{EXAMPLE}'"
            )
            raise _error(text, (at, 1), "the rule ends after the metric", f"{usual}; {quotes}")
        raise _error(text, (at, 1), "an operator is missing here", usual)
    meant = _MISSPELLED.get(found)
    hint = f"; did you mean {meant!r}?" if meant else ""
    raise _error(text, (parts.start(2), len(found)), f"unknown operator {found!r}{hint}", usual)


def _read_number(text: str, parts: re.Match[str]) -> float:
    found = parts[3]
    if found is None:
        at = parts.end(2)
        at += len(text[at:]) - len(text[at:].lstrip())
        raise _error(text, (at, 1), "a number is missing here", f"For example {EXAMPLE}")
    try:
        number = float(found)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    advice = f"For example {EXAMPLE}, with a decimal point"
    raise _error(text, (parts.start(3), len(found)), f"{found!r} is not a number", advice)


def _explain_unit(name: str, unit: str, metric: _Metric) -> tuple[str, str]:
    known = [u for u in metric.units if u]
    folded = {u.lower(): u for u in known}
    if not unit:
        words = f"{name} needs a unit"
    elif unit.lower() in folded:
        words = f"unknown unit {unit!r}; did you mean {folded[unit.lower()]!r}?"
    elif name.endswith("drop") and unit == "%":
        words = "a drop is a difference of two percentages, which is given in points, not in %"
    else:
        words = f"unknown unit {unit!r}"
    bare = " or none" if "" in metric.units else ""
    return words, f"{name} takes {', '.join(known)}{bare}" if known else f"{name} has no unit"


def _quantity(name: str, unit: str) -> Quantity:
    if name == "size" and unit in _BYTES:
        return "bytes"
    return next(quantity for quantity in get_args(Quantity) if quantity == name)


def _list_metrics() -> str:
    own = "numbers of your own with --metric"
    return f"Metrics: {', '.join(METRICS)}; {', '.join(MEASURES)}; {own}"


def _error(text: str, where: tuple[int, int], words: str, advice: str) -> UsageError:
    """Return an error that repeats the rule and marks the part at `where`, (start, length)."""
    at, length = where
    line = text.replace("\n", " ").replace("\t", " ")
    return UsageError(f"--gate {text!r}: {words}\n  {line}\n  {' ' * at}{'^' * length}\n{advice}.")
