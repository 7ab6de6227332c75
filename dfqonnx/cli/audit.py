"""`dfqonnx audit`: what is wrong in a quantized file, and what the runtime does with its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_table, print_text
from dfqonnx.errors import UsageError

if TYPE_CHECKING:
    from dfqonnx.lint.lint import LintResult
    from dfqonnx.runtime.kernel_audit import Audit
    from dfqonnx.workflows.audit import FileAudit


TargetName = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="The runtime whose rules hold (dfqonnx targets); by default the one that the file "
        f"records, else {o.DEFAULT_TARGET}.",
        show_default=False,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="End with 1 if a Conv, Gemm or MatMul runs in float, or at a warning or worse.",
    ),
]
FailOn = Annotated[
    Literal["error", "warning", "note"] | None,
    typer.Option(help="End with 1 at a finding of this level or worse.", show_default=False),
]
Sarif = Annotated[
    Path | None,
    typer.Option(
        "--sarif",
        metavar="FILE",
        help="Write the findings as SARIF 2.1.0, for code scanning.",
        show_default=False,
    ),
]


def audit(
    files: Annotated[list[Path] | None, typer.Argument(help="The ONNX files.")] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Another ONNX file.")] = None,
    target: TargetName = None,
    strict: Strict = False,
    fail_on: FailOn = None,
    rules_only: Annotated[
        bool, typer.Option("--rules-only", help="Apply the rules alone, and load nothing.")
    ] = False,
    sarif: Sarif = None,
    provider: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="The provider that loads the files.")
    ] = "cpu",
    verbose: Annotated[bool, typer.Option("--verbose", help="List the nodes.")] = False,
    as_json: o.AsJson = False,
) -> int:
    """Find what is wrong in a quantized file of any origin, and show what runs on integers."""
    from dfqonnx.core.atomic_write import check_file_out
    from dfqonnx.runtime.session import require_runtime
    from dfqonnx.targets.profile import TARGETS
    from dfqonnx.workflows.preflight import check_model

    paths = [*(files or ()), *([] if model is None else [model])]
    if not paths:
        raise UsageError("the model is missing. Give it like this: dfqonnx audit MODEL.onnx")
    if target is not None:
        _ = TARGETS[target]  # known, before anything slow
    for path in paths:
        check_model(path, what="model")
    if sarif is not None:
        check_file_out(sarif)
    if not rules_only:
        require_runtime()
    from dfqonnx.workflows.audit import audit_file, describe_audit, write_sarif

    found = [
        audit_file(path, target=target, provider=provider, execute=not rules_only)
        for path in dict.fromkeys(paths)
    ]
    if sarif is not None:
        write_sarif(sarif, found)
    if as_json:
        plain = [describe_audit(one) for one in found]
        print_json(plain[0] if len(found) == 1 else plain)
    else:
        for one in found:
            if len(found) > 1:
                print_text(f"{one.lint.path}:")
            _show(one, verbose=verbose, executes=not rules_only)
    return 1 if any(one.fails(strict=strict, level=fail_on) for one in found) else 0


def _show(found: FileAudit, *, verbose: bool, executes: bool) -> None:
    _show_findings(found.lint, verbose=verbose)
    if found.refused:
        print_text(f"ONNX Runtime refuses the file: {found.refused}")
    elif found.kernels is not None:
        _show_kernels(found.kernels)
    elif executes:
        print_text(f"Rules only: nothing was run in {found.lint.target.runtime}.")


def _show_findings(lint: LintResult, *, verbose: bool) -> None:
    from dfqonnx.lint.sarif import show_share

    name = lint.target.name
    if not lint.findings:
        kind = "" if lint.quantizers else "; it holds no quantizers"
        print_text(f"No findings for {name}{kind}.")
        return
    print_text(f"Findings for {name}:")
    print_table(
        ["level", "rule", "what is wrong", "nodes", "multiply-adds"],
        [
            (
                finding.rule.level,
                f"{finding.rule.id} {finding.rule.name}",
                finding.rule.title,
                str(len(finding.places)),
                "-" if finding.share is None else show_share(finding.share),
            )
            for finding in lint.findings
        ],
        texts=3,
    )
    for finding in lint.findings:
        rule = finding.rule
        print_text(f"{rule.id} costs: {rule.cost}.")
        print_text(f"       mend:  {rule.mend}.")
        if verbose:
            for place in finding.places:
                print_text(f"       - {place.node}" + (f": {place.detail}" if place.detail else ""))
    if not verbose:
        print_text("--verbose lists the nodes; docs/audit.md has every rule with its source.")


def _show_kernels(found: Audit) -> None:
    total = sum(found.integer_nodes.values())
    print_text(f"{total} nodes run on integers, and {len(found.float_nodes)} in float.")
    for op, count in found.integer_nodes.items():
        print_text(f"  {op} {count}")
    if found.conversions:
        counts = ", ".join(f"{op} {count}" for op, count in found.conversions.items())
        print_text(f"Conversions between the two: {counts}.")
    if found.float_nodes:
        print_table(
            ["float node", "operator", "reason"],
            [(node.name, node.op, node.reason) for node in found.float_nodes],
            texts=3,
        )
