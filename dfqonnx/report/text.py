"""A report as (what, value) lines: the same words in the table and in `report.md`.

`report.md`: the report for a reader, a pull request or a build's summary page.

The table at the end of a run.

The estimated drop in words: the same in the table, in `report.md` and on the page.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.outputs import OutputDistance
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.report.report import Report


def describe_estimate(found: Estimate) -> str:
    """Return the figure with its interval."""
    assert None not in {found.value, found.low, found.high}
    return f"{found.value:.2f} points (90 %: {found.low:.2f} to {found.high:.2f})"


def line(found: Estimate, drop: Drop | None) -> str:
    """Return all that fits a line.

    Args:
        found: the estimate.
        drop: as measured on labeled images; None without labels.
    """
    if found.value is None:
        return f"cannot tell: {found.reason}"
    words = f"{describe_estimate(found)}, from {found.basis}"
    if found.reason:
        words += f"; {found.reason}"
    return words if drop is None else f"{words}; {against(found, drop)}"


def against(found: Estimate, drop: Drop) -> str:
    """Say how the estimate and the measured drop, with their intervals, stand to each other."""
    assert found.low is not None
    assert found.high is not None
    if found.low <= drop.points.value <= found.high:
        return "the measured drop lies inside"
    if drop.points.low <= found.high and found.low <= drop.points.high:
        return "the measured drop lies outside, their intervals overlap"
    return "the measured drop lies outside"


def standing(found: Estimate) -> str:
    """Say how far the instrument can be trusted; empty where it told nothing."""
    known = found.record
    if known is None:
        return ""
    return (
        f"On {known.students} students of {known.networks} networks, each network left out in turn,"
        f" {known.inside:.0%} of the true drops lay inside such intervals (rank correlation"
        f" {known.rank:.2f})."
    )


Line = tuple[str, str]


def headline(report: Report) -> str:
    """Return one sentence: what came out."""
    parts = [] if report.bits is None else [f"W{report.bits.weights}A{report.bits.activations}"]
    parts += _closeness(report)
    if report.size_ratio is not None:
        parts.append(f"{report.size_ratio:.2f} of the size")
    if report.latency is not None:
        parts.append(f"{report.latency.speedup:.1f} times the speed")
    return f"{report.verdict}: " + ", ".join(parts or ["nothing was measured"])


def _closeness(report: Report) -> Iterator[str]:
    """Yield how close the student is: the drop; without labels what comes nearest to it."""
    if report.drop is not None:
        yield f"top-1 drop {report.drop.points.value:.2f} points"
        return
    told = report.estimate
    if told is not None and told.value is not None:
        yield f"top-1 drop {told.low:.1f} to {told.high:.1f} points, told without labels"
    if report.agreement.synthetic is not None:
        yield f"agreement {report.agreement.synthetic.value:.1%} on synthetic images"
    elif (worst := worst_output(report)) is not None:
        yield f"SQNR {worst.sqnr_db:.1f} dB on output {worst.name}"


def ungated(report: Report) -> str:
    """Say what the verdict stands for where the user set no rule; empty where one was set."""
    if any(gate.asked for gate in report.gates):
        return ""
    words = "No rule was set: the verdict covers the file, not its accuracy."
    if report.drop is not None:
        return words
    if report.estimate is not None and report.estimate.value is not None:
        return f"{words} Without labels, agreement and the estimated drop are all that is known."
    if report.agreement.eval is None and report.agreement.synthetic is None:
        return f"{words} Without labels, the distance of the outputs is all that is known."
    return f"{words} Without labels, agreement is all that is known."


def lines(report: Report) -> Iterator[Line]:
    """Yield what is known, in reading order; what is unknown is left out."""
    yield from _accuracy(report)
    yield from _file(report)
    yield from _runtime(report)
    if report.images is not None:
        images = report.images
        guided = f"; {images.guided_by}" if images.guided_by else ""
        yield "images", f"{images.count} {images.source} (BatchNorm {images.batchnorm}{guided})"
        if images.divergence is not None:
            far = f"{images.divergence:.4f} nats a layer (what BatchNorm remembers; 0 is the same)"
            yield "images from training data", far
    if report.recipe is not None:
        yield "recipe", f"{report.recipe}, seed {report.seed}"
    if report.seconds:
        yield "seconds", ", ".join(f"{k} {v:.1f}" for k, v in report.seconds.items())
    if report.peak_rss_mb is not None:
        yield "peak memory", f"{report.peak_rss_mb:.0f} MiB"


def _accuracy(report: Report) -> Iterator[Line]:
    if report.bits is not None:
        ends = "like the others" if report.bits.ends is None else f"{report.bits.ends} bits"
        yield (
            "bits",
            f"weights {report.bits.weights}, activations {report.bits.activations}; "
            f"first and last layer's weights {ends}; residual stream {report.bits.stream}",
        )
    for name, facts in (("teacher", report.teacher), ("student", report.student)):
        if facts.top1 is not None:
            yield f"top-1 of the {name}", _bounds(facts.top1, " %")
    if report.drop is not None:
        yield "drop", _bounds(report.drop.points, " points")
    if report.estimate is not None:
        yield "drop, estimated without labels", line(report.estimate, report.drop)
    for name, share in (
        ("evaluation", report.agreement.eval),
        ("synthetic", report.agreement.synthetic),
    ):
        if share is not None:
            yield f"agreement, {name} images", _bounds(share, " %", times=100)
    for output in report.agreement.outputs:
        yield f"output {output.name}", output_words(output)


def output_words(output: OutputDistance) -> str:
    """Return how far one output is from the teacher's, as a person reads it."""
    if output.kind == "varying":
        return "not compared: its length depends on what is seen"
    if output.exact:
        return "equal to the teacher's"
    parts = []
    if output.kind == "mask" and output.same is not None:
        parts.append(f"same class at {output.same:.2%} of the pixels")
    if output.kind == "labels" and output.same is not None:
        parts.append(f"{output.same:.2%} of its entries are equal")
    if output.iou is not None:
        parts.append(f"mean IoU {output.iou:.3f}")
    if output.psnr_db is not None:
        parts.append(f"PSNR {output.psnr_db:.1f} dB")
    if output.sqnr_db is not None:
        parts.append(f"SQNR {output.sqnr_db:.1f} dB")
    return ", ".join(parts) or "not compared"


def worst_output(report: Report) -> OutputDistance | None:
    """Return the output with the lowest SQNR."""
    known = [o for o in report.agreement.outputs if o.sqnr_db is not None]
    return min(known, key=lambda output: output.sqnr_db or 0.0, default=None)


def _file(report: Report) -> Iterator[Line]:
    if report.size_ratio is not None:
        yield (
            "size",
            f"{_kib(report.student.bytes)} instead of {_kib(report.teacher.bytes)} "
            f"({report.size_ratio:.3f})",
        )


def _runtime(report: Report) -> Iterator[Line]:
    if report.latency is not None:
        t = report.latency
        threads = "1 thread" if t.threads == 1 else f"{t.threads} threads"
        yield (
            "latency",
            f"{t.student_ms:.2f} ms instead of {t.teacher_ms:.2f} ms ({t.speedup:.2f} times "
            f"faster; batch {t.batch}, {threads})",
        )
    if report.audit is not None:
        integers = ", ".join(f"{op} {n}" for op, n in report.audit.integer_nodes.items())
        yield "integer nodes", integers or "none"
        yield "float nodes", str(len(report.audit.float_nodes))
    parity = report.parity
    for what, levels, flips in (
        ("file against torch student", parity.off_vs_torch_levels, parity.off_vs_torch_flips),
        ("deployed against file", parity.on_vs_off_levels, parity.on_vs_off_flips),
    ):
        if levels is not None and flips is not None:
            yield what, f"{flips:.1e} of the codes differ, by {levels} levels at most"
    if parity.top1_same is not None:
        yield (
            "same class, deployed and trained",
            f"{parity.top1_same:.2%} of {parity.images} images",
        )
    if parity.eval_same is not None:
        yield (
            "same class, evaluation images",
            f"{parity.eval_same:.2%} of {parity.eval_images} images",
        )


def _bounds(found: Interval, unit: str, *, times: float = 1.0) -> str:
    low, high = times * found.low, times * found.high
    return f"{times * found.value:.2f}{unit} (95 %: {low:.2f} to {high:.2f}, n = {found.n})"


def _kib(size: int | None) -> str:
    return "?" if size is None else f"{size / 1024:,.0f} KiB"


_MARK = {True: "holds", False: "FAILS", None: "inconclusive"}


def markdown(report: Report) -> str:
    """Return the whole page."""
    parts = [*_head(report), _gates(report), _floats(report), _skipped(report)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _head(report: Report) -> list[str]:
    rows = [f"| {what} | {_cell(value)} |" for what, value in lines(report)]
    warnings = "\n".join(f"- {warning}" for warning in report.warnings)
    return [
        f"# {report.student.path}",
        f"**{headline(report)}**",
        ungated(report),
        f"Made from `{report.teacher.path}`.",
        "\n".join(["| | |", "| --- | --- |", *rows]) if rows else "",
        f"## Warnings\n\n{warnings}" if warnings else "",
    ]


def _gates(report: Report) -> str:
    if not report.gates:
        return ""
    rows = [f"| {_cell(g.rule)} | {_cell(g.value)} | {_MARK[g.holds]} |" for g in report.gates]
    return "\n".join(["## Gates", "", "| rule | found | |", "| --- | --- | --- |", *rows])


def _floats(report: Report) -> str:
    if report.audit is None or not report.audit.float_nodes:
        return ""
    rows = [
        f"| `{_cell(node.name)}` | {node.op} | {_cell(node.reason)} |"
        for node in report.audit.float_nodes
    ]
    return "\n".join(
        ["## Nodes in float", "", "| node | operator | why |", "| --- | --- | --- |", *rows]
    )


def _skipped(report: Report) -> str:
    rows = [f"| `{_cell(s.node)}` | {_cell(str(s))} |" for s in report.skipped_rewrites]
    head = ["## Nodes that could not be simplified", "", "| node | why |", "| --- | --- |"]
    return "\n".join([*head, *rows]) if rows else ""


def _cell(text: str) -> str:
    """A bar or a line break would end the cell."""
    return text.replace("|", "\\|").replace("\n", " ")


_COLOUR = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def table(report: Report) -> RenderableType:
    """Return what rich prints: the headline, what was measured, and the gates."""
    facts = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for what, value in lines(report):
        facts.add_row(what, Text(value))
    for gate in report.gates:
        mark, style = _mark(gate.holds)
        facts.add_row(f"gate {mark}", Text(f"{gate.rule}: {gate.value}", style=style))
    parts: list[RenderableType] = [Text(headline(report), style=_COLOUR[report.verdict]), facts]
    words = ungated(report)
    return Group(*parts, Text(words, style="dim")) if words else Group(*parts)


def _mark(holds: bool | None) -> tuple[str, str]:
    if holds is None:
        return "inconclusive", "yellow"
    return ("holds", "") if holds else ("FAILS", "red")
