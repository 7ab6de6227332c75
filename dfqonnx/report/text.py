"""A report in words: as (label, text) lines, as a sentence, as `report.md` and as a table.

The table at the end of a run, `report.md` and the page share these words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dfqonnx.evaluation.agreement_estimate.estimate_agreement import AgreementEstimate
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.drop_estimate.regression import CrossValidation
from dfqonnx.evaluation.outputs import OutputDistance
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.foreign_text import MAX_LINE, markdown, markdown_name, printable
from dfqonnx.report.measure_lines import describe_measure, main_measure, measure_lines
from dfqonnx.report.number_format import (
    format_count,
    format_decibels,
    format_interval,
    format_size,
    to_percent,
)
from dfqonnx.report.report import Report
from dfqonnx.report.target_checks import target_lines
from dfqonnx.report.verdict import Gate

Line = tuple[str, str]


def describe_estimate(found: Estimate, drop: Drop | None = None) -> str:
    """Return the estimated drop with its interval, or why there is none; compare it with `drop`."""
    if found.value is None:
        return f"cannot be estimated: {found.reason}"
    interval = f"(90 %: {found.low:.2f} to {found.high:.2f})"
    parts = [f"{found.value:.2f} points {interval}, from {found.basis}", found.reason]
    if drop is not None:
        parts.append(_compare_with_measured(found, drop))
    return "; ".join(filter(None, parts))


def _compare_with_measured(found: Estimate, drop: Drop) -> str:
    assert found.low is not None
    assert found.high is not None
    if found.low <= drop.points.value <= found.high:
        return "the measured drop lies inside the interval"
    overlap = drop.points.low <= found.high and found.low <= drop.points.high
    rest = ", but the two intervals overlap" if overlap else ""
    return f"the measured drop lies outside the interval{rest}"


def describe_agreement_estimate(found: AgreementEstimate, measured: Interval | None = None) -> str:
    """Return the estimated agreement with its interval, or why there is none.

    `measured` is the agreement on evaluation images, if there are any.
    """
    if found.value is None or found.low is None or found.high is None:
        return f"cannot be estimated: {found.reason}"
    interval = f"(90 %: {100 * found.low:.1f} to {100 * found.high:.1f} %)"
    parts = [f"{100 * found.value:.1f} % {interval}, from {found.basis}", found.reason]
    if measured is not None:
        where = "inside" if found.low <= measured.value <= found.high else "outside"
        parts.append(f"the measured agreement lies {where} the interval")
    return "; ".join(filter(None, parts))


def describe_calibration(known: CrossValidation | None, what: str) -> str:
    """Return how reliable estimates of `what` are; an empty text where there is no estimate."""
    if known is None:
        return ""
    return (
        f"In cross-validation over {known.students} students of {known.networks} networks, with one"
        f" network left out at a time, {100 * known.coverage:.0f} % of the true {what} lay inside"
        f" these intervals (rank correlation {known.rank_correlation:.2f})."
    )


def headline(report: Report) -> str:
    """Return both statements and the figures in one sentence."""
    return f"{report.file_checks}; {report.accuracy}: {describe_figures(report)}"


def describe_figures(report: Report) -> str:
    """Return how close, how small and how fast the student is."""
    parts = [] if report.bits is None else [report.bits.label]
    parts += _closeness(report)
    if report.size_ratio is not None:
        parts.append(f"{report.size_ratio:.2f} times the size")
    if report.latency is not None:
        parts.append(f"{report.latency.speedup:.1f} times the speed")
    return ", ".join(parts or ["nothing was measured"])


def _closeness(report: Report) -> Iterator[str]:
    """Yield the measured drop; without labels the estimated drop, and agreement or SQNR."""
    if report.drop is not None:
        points = report.drop.points
        yield f"top-1 drop {points.value:.2f} points on {points.n:,} labeled images"
        return
    estimate = report.estimated_drop
    if estimate is not None and estimate.value is not None:
        low_to_high = f"{estimate.low:.1f} to {estimate.high:.1f} points"
        yield f"top-1 drop {low_to_high} (estimated without labels)"
    elif (told := report.estimated_agreement) is not None and told.low is not None:
        low_to_high = f"{100 * told.low:.1f} to {100 * (told.high or 0):.1f} %"
        yield f"agreement {low_to_high} on real inputs (estimated)"
    agreement = report.agreement
    if (measure := main_measure(report.measures)) is not None:
        yield f"{measure.name} {describe_measure(measure)}"
    elif (share := agreement.best_known) is not None:
        yield f"agreement {100 * share.value:.1f} % on {share.n:,} {agreement.best_known_set}"
    elif (worst := worst_output(report)) is not None:
        images = f"{agreement.images:,} {agreement.image_set} inputs"
        yield f"SQNR {format_decibels(worst.sqnr_db)} on output {worst.name}, {images}"


def describe_missing_gates(report: Report) -> str:
    """Return what is known where no rule judges the accuracy; empty where one does."""
    if any(gate.topic == "accuracy" for gate in report.gates):
        return ""
    words = (
        "No rule says how accurate the network must be, so its accuracy was not judged:"
        " set one with --gate, or take the usual ones with --strict."
    )
    if report.accuracy.status == "measured" or report.teacher.top1 is not None:
        return words
    known = "the distance of the outputs is known"
    told = {
        "of the drop": report.estimated_drop,
        "of the agreement on real inputs": report.estimated_agreement,
    }
    of = [name for name, found in told.items() if found is not None and found.value is not None]
    if of:
        some = "estimates" if len(of) > 1 else "an estimate"
        known = f"agreement and {some} {' and '.join(of)} are known"
    elif report.agreement.best_known is not None:
        known = "agreement is known"
    elif report.measures:
        known = "the distance to the float model's own results is known"
    return f"{words} Without labels, only {known}."


def report_lines(report: Report) -> Iterator[Line]:
    """Yield (label, text) for everything known, in reading order; what is unknown is left out."""
    yield from _accuracy_lines(report)
    yield from _runtime_lines(report)
    yield from provenance_lines(report)


def provenance_lines(report: Report) -> Iterator[Line]:
    """Yield what the student was made from, and what that took."""
    if report.images is not None:
        images = report.images
        guided = f"; {images.guided_by}" if images.guided_by else ""
        origin = f"(BatchNorm statistics {images.batchnorm}{guided})"
        yield "synthetic images", f"{images.count:,} from source {images.source!r} {origin}"
        if images.own:
            words = "joined the synthetic ones in the work, and others were held out for measures"
            yield "images of yours", f"{images.own:,} unlabeled ones {words}"
        if images.divergence is not None:
            text = "{:.4f} nats per layer (by BatchNorm statistics; 0 is identical)"
            yield "divergence from training data", text.format(images.divergence)
    if report.recipe is not None:
        yield "recipe", f"{report.recipe}, seed {report.seed}"
    if report.seconds:
        yield "seconds", ", ".join(f"{k} {v:.1f}" for k, v in report.seconds.items())
    if report.peak_memory_mib is not None:
        yield "peak memory", f"{report.peak_memory_mib:,.0f} MiB"


LEFT_OUT = {  # of a short table
    "bits", "integer nodes", "file against trained student", "optimized session against file",
    "same class in both", "same class, evaluation images", "there, to the file as written",
}  # fmt: skip
MOST_OUTPUTS = 3  # in a short table


def _short_lines(report: Report) -> Iterator[Line]:
    """Yield what most people want to know: how close, how small, how fast, what is in float."""
    outputs = 0
    own = [line for line in provenance_lines(report) if line[0] == "images of yours"]
    for label, text in (*_accuracy_lines(report), *_runtime_lines(report), *own):
        if label.startswith("output "):
            outputs += 1
            if outputs > MOST_OUTPUTS:
                continue
        if label not in LEFT_OUT:
            yield label, text


def _accuracy_lines(report: Report) -> Iterator[Line]:
    if report.bits is not None:
        bits = report.bits
        ends = "like the others" if bits.first_last is None else str(bits.first_last)
        yield (
            "bits",
            f"weights {bits.weights}, activations {bits.activations}; "
            f"weights of the first and last layer {ends}; residual activations {bits.residual}",
        )
        origin = "as asked" if report.bit_choice is None else "as asked or found"
        if bits.keep_float:
            yield f"kept in float {origin}", ", ".join(bits.keep_float)
        if bits.bits_for:
            yield f"other widths {origin}", ", ".join(bits.bits_for)
    for name, facts in (("teacher", report.teacher), ("student", report.student)):
        if facts.top1 is not None:
            yield f"top-1 of the {name}", format_interval(facts.top1, "%")
    if report.drop is not None:
        yield "top-1 drop", format_interval(report.drop.points, "points")
    if report.estimated_drop is not None:
        yield "estimated top-1 drop", describe_estimate(report.estimated_drop, report.drop)
    yield from _agreement_lines(report)
    agreement = report.agreement
    images = f" ({agreement.images:,} {agreement.image_set} inputs)" if agreement.images else ""
    yield from measure_lines(report.measures)
    for note in report.notes:
        yield "outputs read as", note
    for output in agreement.outputs:
        yield f"output {output.name}", f"{describe_output(output)}{images}"


def agreement_estimate(report: Report) -> AgreementEstimate | None:
    """Return the estimated agreement; None where the drop's estimate says why there is none."""
    found, drop = report.estimated_agreement, report.estimated_drop
    is_said = drop is not None and found is not None and drop.reason == found.reason
    return None if is_said and found is not None and found.value is None else found


def _agreement_lines(report: Report) -> Iterator[Line]:
    agreement, told = report.agreement, agreement_estimate(report)
    if told is not None:
        words = describe_agreement_estimate(told, agreement.evaluation)
        yield "agreement on real inputs, estimated", words
    for name, share in (("evaluation", agreement.evaluation), ("synthetic", agreement.synthetic)):
        if share is not None:
            yield f"agreement, {name} images", format_interval(to_percent(share), "%")


def describe_output(output: OutputDistance) -> str:
    """Return how far one output of the student is from the teacher's."""
    if output.kind == "varying":
        return "not compared, because its length depends on the image"
    if output.exact:
        return "equal to the teacher's"
    same = {"mask": "same class at {:.2f} % of the pixels",
            "labels": "{:.2f} % of its entries are equal"}.get(output.kind, "")  # fmt: skip
    parts = [same.format(100 * output.same)] if same and output.same is not None else []
    if output.sqnr_db is not None:
        found = output.sqnr_interval
        ends = "" if found is None else f" (95 %: {found.low:.1f} to {found.high:.1f})"
        parts.append(f"SQNR {output.sqnr_db:.1f} dB{ends}")
    return ", ".join(parts) or "not compared"


def worst_output(report: Report) -> OutputDistance | None:
    """Return the output with the lowest SQNR."""
    known = [o for o in report.agreement.outputs if o.sqnr_db is not None]
    return min(known, key=lambda output: output.sqnr_db or 0.0, default=None)


def _runtime_lines(report: Report) -> Iterator[Line]:
    teacher, student = report.teacher.bytes, report.student.bytes
    if teacher and student is not None:
        ratio = f"({student / teacher:.3f} times)"
        yield "size", f"{format_size(student)} instead of {format_size(teacher)} {ratio}"
    if report.latency is not None:
        t = report.latency
        how = f"batch {t.batch}, {format_count(t.threads, 'thread')}"
        ratio = f"({t.speedup:.2f} times the speed; {how})"
        yield "latency", f"{t.student_ms:.2f} ms instead of {t.teacher_ms:.2f} ms {ratio}"
    if report.proof is not None:
        yield from target_lines(report.proof)
    if report.audit is not None:
        integers = ", ".join(f"{op} {n}" for op, n in report.audit.integer_nodes.items())
        yield "integer nodes", integers or "none"
        yield "float nodes", str(len(report.audit.float_nodes))
    found = report.parity
    if found.written_vs_trained is not None:
        yield "file against trained student", str(found.written_vs_trained)
    if found.deployed_vs_written is not None:
        yield "optimized session against file", str(found.deployed_vs_written)
    for label, share, images in (
        ("same class in both", found.same_class, found.images),
        ("same class, evaluation images", found.evaluation_same_class, found.evaluation_images),
    ):
        if share is not None:
            yield label, f"{100 * share:.2f} % of {images:,} images"


def describe_outcome(gate: Gate) -> tuple[str, str]:
    """Return the outcome of a gate in a word, and its style in a terminal."""
    if gate.holds is False and not gate.is_required:
        return "WARNS", "yellow"
    words = {True: ("holds", ""), False: ("FAILS", "red"), None: ("inconclusive", "yellow")}
    return words[gate.holds]


def format_markdown(report: Report) -> str:
    """Return the text of `report.md`, for a reader, a pull request or a build's summary page."""
    rows = [(markdown(label), markdown(text)) for label, text in report_lines(report)]
    warnings = "\n".join(f"- {markdown(warning, most=2**21)}" for warning in report.warnings)
    evidence = [
        (markdown_name(w.name), markdown(w.found), markdown(w.advice)) for w in report.evidence
    ]
    checks, rules = (
        [
            (markdown(g.rule), markdown(g.value), describe_outcome(g)[0])
            for g in report.gates
            if g.topic == topic
        ]
        for topic in ("file", "accuracy")
    )
    floats = () if report.audit is None else report.audit.float_nodes
    nodes = [(markdown_name(n.name), markdown(n.op), markdown(n.reason)) for n in floats]
    skipped = [(markdown_name(s.node), markdown(str(s))) for s in report.skipped_rewrites]
    parts = [
        f"# {markdown(report.student.path)}",
        f"**{markdown(headline(report))}**",
        describe_missing_gates(report),
        f"Made from {markdown_name(report.teacher.path)}.",
        _markdown_table("", ("", ""), rows),
        f"## Warnings\n\n{warnings}" if warnings else "",
        _markdown_table("## About the evidence", ("warning", "found", "advice"), evidence),
        _markdown_table("## The file", ("check", "found", ""), checks),
        _markdown_table("## Accuracy", ("rule", "found", ""), rules),
        _markdown_table("## Nodes in float", ("node", "operator", "reason"), nodes),
        _markdown_table("## Nodes that could not be simplified", ("node", "reason"), skipped),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, ("---",) * len(head), *rows]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{title}\n\n{text}" if title else text


_VERDICT_STYLES = {
    "pass": "bold green", "fail": "bold red", "not judged": "bold", "warning": "bold yellow",
    "inconclusive": "bold yellow",
}  # fmt: skip


def format_table(report: Report, *, short: bool = False) -> RenderableType:
    """Return what rich prints at the end of a run: headline, measurements and gates.

    A `short` one leaves out how the file was made, and the built-in checks that hold.
    """
    facts = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, text in _short_lines(report) if short else report_lines(report):
        facts.add_row(_cell(label), _cell(text))
    for gate in report.gates:
        if short and gate.holds and gate.origin == "check":
            continue
        mark, style = describe_outcome(gate)
        facts.add_row(f"{gate.topic} {mark}", _cell(f"{gate.rule}: {gate.value}", style))
    for warning in report.evidence:
        facts.add_row("warning", _cell(str(warning), "yellow"))
    title = _cell(headline(report), _VERDICT_STYLES[report.verdict])
    note = describe_missing_gates(report)
    return Group(title, facts, *([Text(note, style="dim")] if note else []))


def _cell(text: str, style: str = "") -> Text:
    """Return a text with names of strangers in it as rich prints it: no markup, one line."""
    return Text(printable(text, most=MAX_LINE), style=style)
