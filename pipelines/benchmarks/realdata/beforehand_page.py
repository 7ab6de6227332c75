"""The page of `beforehand.py`: what was told of a student beforehand, and what real inputs show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from realdata.task import Figures
from realdata.told import Told
from realdata.told_agreement import FORMS, can_be_told, tell_agreement, tell_nested
from scipy.stats import spearmanr
from tables.figures import line
from tables.runs import DASH

from dfqonnx.evaluation.drop_estimate.regression import cross_validate, shipped_predictions

FEWEST, FEWEST_NETWORKS = 4, 4
FAR = 10  # points or decibels
FEWEST_BOXES = 20  # that the float model finds on fixed inputs; of fewer a share says little
COVERAGE = 0.9
PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {  # of figures on fixed and on real inputs
    "classes": (("agreement", "agreement"), ("SQNR", "SQNR"), ("SQNR", "agreement")),
    "boxes": (
        ("fidelity mAP", "fidelity mAP"),
        ("SQNR", "SQNR"),
        ("SQNR", "fidelity mAP"),
    ),
    "masks": (("mIoU", "mIoU"), ("SQNR", "SQNR"), ("SQNR", "mIoU")),
    "images": (("PSNR", "PSNR"), ("SQNR", "SQNR")),
    "text": (("same steps", "same steps"), ("SQNR", "SQNR"), ("SQNR", "same characters")),
    "values": (("MAE", "MAE"), ("SQNR", "SQNR")),
}
HEAD = """# What is told beforehand, and what real inputs show

Made by `python pipelines/benchmarks/beforehand.py`; edit nothing by hand, `beforehand.jsonl` holds a line for each student.

Students of every network that real inputs are at hand for, good ones and bad ones (`pipelines/benchmarks/realdata/students.py`), against their float files:
on the fixed synthetic inputs that `dfqonnx validate` has, and on real inputs. All figures but those lost by labels compare the two files and
need no label. SQNR is that of the worst output, over what varies with the input. Exports of one set of weights count once. The estimate of the drop was
fitted to some of the classifiers: they stand in its own table, each with its network left out, and are not estimated here.

"""  # noqa: E501


def correlate(records: Sequence[Told], first: str, second: str) -> float | None:
    """Return Spearman's rank correlation of a figure on fixed inputs with one on real inputs.

    None where fewer than `FEWEST` students have both, or one of them never changes. Students whose
    fixed inputs cannot tell the figure are left out.
    """
    known = [r for r in records if tells(r, first) and second in r.real]
    return _spearman([(r.fixed[first], r.real[second]) for r in known])


def tells(record: Told, figure: str) -> bool:
    """Return whether fixed inputs can tell a figure: boxes where the float model finds some."""
    is_fidelity = figure.startswith("fidelity")
    found = record.fixed.get("boxes", float("inf")) >= FEWEST_BOXES
    return figure in record.fixed and (found or not is_fidelity)


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    told, true = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(pairs) < FEWEST or len(set(told)) < 2 or len(set(true)) < 2:
        return None
    return float(spearmanr(told, true).statistic)


def held_out(records: Sequence[Told]) -> list[tuple[Told, float, float]]:
    """Return every student with the ends of its 90 % interval of SQNR on real inputs, in dB.

    SQNR on real inputs = a + b SQNR on fixed ones, fitted without the student's network; the half
    width is the `COVERAGE` quantile of the errors on networks left out of a fit of the others.
    """
    found = []
    for name in sorted({r.network for r in records}):
        rest = [r for r in records if r.network != name]
        line_of, half = fit_line(rest), half_width(rest)
        for record in (r for r in records if r.network == name):
            middle = line_of[0] + line_of[1] * record.fixed["SQNR"]
            found.append((record, middle - half, middle + half))
    return found


def fit_line(records: Sequence[Told]) -> tuple[float, float]:
    """Return a and b of the least squares line from SQNR on fixed inputs to SQNR on real ones."""
    b, a = np.polyfit([r.fixed["SQNR"] for r in records], [r.real["SQNR"] for r in records], 1)
    return float(a), float(b)


def half_width(records: Sequence[Told]) -> float:
    """Return the half width of the interval, from errors on networks left out one by one."""
    errors: list[float] = []
    for name in {r.network for r in records}:
        a, b = fit_line([r for r in records if r.network != name])
        own = [r for r in records if r.network == name]
        errors += [abs(r.real["SQNR"] - a - b * r.fixed["SQNR"]) for r in own]
    place = min(len(errors), math.ceil(COVERAGE * (len(errors) + 1)))
    return sorted(errors)[place - 1]


def explain(record: Told) -> str:
    """Return which of the two levels make real inputs worse than the fixed ones."""
    signal, noise = (record.real[name] - record.fixed[name] for name in ("signal", "noise"))
    parts = []
    if noise >= 1:
        parts.append(f"real inputs drive what the fixed do not: error {noise:.0f} dB stronger")
    if signal <= -1:
        parts.append(f"the output varies {-signal:.0f} dB less on real inputs")
    return "; ".join(parts) or "the same error counts for more in this figure on real inputs"


def render(records: Sequence[Told], untold: Mapping[str, str]) -> str:
    """Return the page."""
    by_kind = {kind: [r for r in records if r.kind == kind] for kind in PAIRS}
    parts = [HEAD, *_correlations(by_kind), _classifiers(), *_intervals(records)]
    parts += [*_agreements(by_kind["classes"]), *_over_stated(records)]
    columns = ("network", "student", "fixed inputs", "real inputs", "lost by labels", "estimate")
    parts += ["\n## All students\n\n", line(columns), line(["---"] * len(columns))]
    for told in records:
        shown = [_show(told.fixed, told.kind), _show(told.real, told.kind), _list(told.lost)]
        shown.append(_interval(told))
        parts.append(line((told.network, told.student, *shown)))
    parts += ["\n## Networks without real inputs\n\n"]
    parts += [
        f"- {name}: {why}; nothing can be told of them here\n" for name, why in untold.items()
    ]
    return "".join(parts)


def _correlations(by_kind: Mapping[str, Sequence[Told]]) -> Iterator[str]:
    columns = ("kind", "networks", "students", "figure", "all students", "within each network")
    yield "## Rank correlation of fixed and real inputs (Spearman)\n\n"
    yield line(columns) + line(["---"] * len(columns))
    for kind, records in by_kind.items():
        networks = list(dict.fromkeys(r.network for r in records))
        for first, second in PAIRS[kind] if records else ():
            own = [
                correlate([r for r in records if r.network == name], first, second)
                for name in networks
            ]
            name = first if first == second else f"{first}, real {second}"
            mute = {r.network for r in records if not tells(r, first)}
            if mute:
                name += f" (cannot be told of {', '.join(sorted(mute))})"
            telling = {r.network for r in records if tells(r, first) and second in r.real}
            found = _round(correlate(records, first, second))
            if found != DASH and len(telling) == 1:
                found += " (within one network)"
            cells = (kind, ", ".join(networks), str(len(records)), name, found)
            yield line((*cells, ", ".join(map(_round, own))))
        if kind == "classes":
            yield from _told_row(records)


def _told_row(records: Sequence[Told]) -> Iterator[str]:
    """Yield the line of agreement told with each network left out, of those that it is told of."""
    told = tell_agreement(records)
    if told:
        networks = dict.fromkeys(each.student.network for each in told)
        own = [
            _spearman([(e.value, e.student.agreement) for e in told if e.student.network == name])
            for name in networks
        ]
        found = _spearman([(each.value, each.student.agreement) for each in told])
        cells = ("classes", ", ".join(networks), str(len(told)), "told agreement, real agreement")
        yield line((*cells, _round(found), ", ".join(map(_round, own))))


def _agreements(records: Sequence[Told]) -> Iterator[str]:
    """Yield how agreement is told, how often its interval is right, and where it cannot be."""
    told = tell_agreement(records)
    if not told:
        return
    inside = sum(each.inside for each in told) / len(told)
    rank = _spearman([(each.value, each.student.agreement) for each in told])
    yield (
        "\n## Agreement on real inputs, told from the fixed ones\n\n"
        "By the estimate that reports show (`dfqonnx/evaluation/agreement_estimate`): noise over"
        " signal and the float model's doubt on the fixed images; one number, fitted"
        f" without the network that is told of. {len(told)} students: rank correlation"
        f" {_round(rank)}, {100 * inside:.0f} % inside the 90 % interval.\n\n"
    )
    yield from _nested(records)
    left_out = dict.fromkeys(r.network for r in records if "classes" not in r.fixed)
    mute = dict.fromkeys(r.network for r in records if not can_be_told(r))
    mute = {name: None for name in mute if name not in left_out}
    if left_out:
        yield f"Students of an earlier time, whose noise was not kept: {', '.join(left_out)}.\n\n"
    yield (
        "Cannot be told, because the float model chooses one class for all fixed images: "
        f"{', '.join(mute) or 'none'}.\n\nOver-stated by more than the interval:\n\n"
    )
    by_key = {record.key: record for record in records}
    over = [each for each in told if each.student.agreement < each.low]
    for each in over:
        known = each.student
        said = f"{100 * each.low:.1f} to {100 * each.high:.1f} % told"
        true = f"{100 * known.agreement:.1f} % true"
        why = explain(by_key[known.network, known.student])
        yield f"- {known.network}, {known.student}: {said}, {true}: {why}\n"
    if not over:
        yield "None.\n"


def _nested(records: Sequence[Told]) -> Iterator[str]:
    """Yield how well agreement is told where the form, too, was chosen without the network."""
    nested = tell_nested(records)
    rank = _spearman([(each.value, each.record.real["agreement"]) for each in nested])
    yield (
        "The form was chosen while looking at these networks. Where the network that is told of is"
        " left out of that choice as well, by the least error on networks left out of the others"
        f" (`realdata/told_agreement.py`, {len(FORMS)} forms), the rank correlation is"
        f" {_round(rank)}; chosen were "
    )
    forms = dict.fromkeys(each.form for each in nested)
    networks = {
        form: dict.fromkeys(e.record.network for e in nested if e.form == form) for form in forms
    }
    words = (f"{form} for {', '.join(names)}" for form, names in networks.items())
    yield f"{'; '.join(words)}.\n\n"


def _classifiers() -> str:
    """Return how the estimated drop does on its own table, every network left out in turn."""
    found = shipped_predictions("fixed")
    facts = cross_validate(found)
    over = [each for each in found if each.student.drop > each.high]
    columns = ("network", "student", "told, points", "90 % interval", "true drop")
    rows = [
        line((e.student.network, e.student.student, f"{e.value:.2f}",
              f"{e.low:.2f} to {e.high:.2f}", f"{e.student.drop:.2f}"))
        for e in over
    ]  # fmt: skip
    return (
        "\n## Top-1 of classifiers\n\n"
        f"The estimate of the drop (`docs/estimate.md`) on its own {facts.students} students of"
        f" {facts.networks} networks, each network left out: rank correlation"
        f" {facts.rank_correlation:.2f}, {100 * facts.coverage:.0f} % inside the 90 % interval."
        f" Students that lost more than the interval said: {len(over)}.\n\n"
        + line(columns) + line(["---"] * len(columns)) + "".join(rows)
    )  # fmt: skip


def _intervals(records: Sequence[Told]) -> Iterator[str]:
    yield "\n## SQNR on real inputs, told from the fixed ones\n\n"
    networks = {r.network for r in records}
    if len(networks) < FEWEST_NETWORKS:
        yield f"{len(networks)} networks are too few to leave one out.\n"
        return
    found = held_out(records)
    inside = sum(low <= told.real["SQNR"] <= high for told, low, high in found) / len(found)
    widths = [(high - low) / 2 for _, low, high in found]
    yield (
        f"{len(found)} students of {len(networks)} networks, each network left out of the line that"
        f" is fitted to the others: {100 * inside:.0f} % inside the 90 % interval, which is"
        f" +- {min(widths):.1f} to {max(widths):.1f} dB wide.\n\nOver-stated by more than that:\n\n"
    )
    for told, low, high in found:
        real = told.real["SQNR"]
        if real < low:
            said = f"{low:.1f} to {high:.1f} dB told, {real:.1f} dB true"
            yield f"- {told.network}, {told.student}: {said}: {explain(told)}\n"


def over_stated(told: Told) -> Iterator[str]:
    """Yield what was told better than it is: a share by `FAR` points, an error by half of it.

    Yield also a drop beyond the interval of its estimate.
    """
    for first, second in PAIRS[told.kind]:
        if first != second or first == "SQNR" or not tells(told, first):
            continue
        said, true = told.fixed[first], told.real[second]
        worse = true > 1.5 * said if first == "MAE" else said - true > FAR
        if worse:
            yield f"{first} {said:.3g} told, {true:.3g} true"
    drop = told.lost.get("top-1")
    if told.high is not None and drop is not None and drop > told.high:
        yield f"drop {_interval(told)} told, {drop:.2f} true"


def _over_stated(records: Sequence[Told]) -> Iterator[str]:
    yield (
        f"\n## Figures of the task that were told better than they are\n\nShares by more than {FAR}"
        " points, PSNR by more decibels than that, errors by more than a half, drops beyond their"
        " interval.\n\n"
    )
    found = [(told, said) for told in records for said in over_stated(told)]
    for told, said in found:
        yield f"- {told.network}, {told.student}: {said}: {explain(told)}\n"
    if not found:
        yield "None.\n"


def _interval(told: Told) -> str:
    """Return the estimated drop, or why there is none."""
    if told.estimate is None:
        return told.reason or DASH
    return f"{told.estimate:.2f} ({told.low:.2f} to {told.high:.2f})"


def _show(figures: Figures, kind: str) -> str:
    names = dict.fromkeys(name for pair in PAIRS[kind] for name in pair)
    return _list({name: figures[name] for name in names if name in figures})


def _list(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items()) or DASH


def _round(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"
