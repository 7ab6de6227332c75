"""`dfqonnx audit`: a file against the rules of its target, and what the runtime made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfqonnx.core.atomic_write import atomic_files
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import json_safe
from dfqonnx.lint.lint import LintResult, lint_file
from dfqonnx.lint.rule import Level
from dfqonnx.lint.sarif import describe_findings
from dfqonnx.runtime.fallback_reasons import NOT_FUSED
from dfqonnx.runtime.kernel_audit import Audit, audit_kernels
from dfqonnx.runtime.session import Provider


@dataclass(frozen=True)
class FileAudit:
    """What is known of one file."""

    lint: LintResult
    kernels: Audit | None  # None where nothing was executed, or the runtime refused the file
    refused: str = ""  # what the runtime said when it refused it

    def fails(self, *, strict: bool, level: Level | None) -> bool:
        """Tell whether the file breaks what was asked for.

        `strict` wants no finding of a warning or worse, and no Conv, Gemm or MatMul in float;
        `level` is the least level of a finding that counts.
        """
        in_float = self.kernels is not None and bool(self.kernels.float_weighted)
        if strict and (in_float or self.refused or self.lint.reaches("warning")):
            return True
        return level is not None and (bool(self.refused) or self.lint.reaches(level))


def audit_file(
    path: Path, *, target: str | None = None, provider: Provider = "cpu", execute: bool = True
) -> FileAudit:
    """Check the file at `path` for a target, by default the one that it records.

    With `execute` it is also loaded, where ONNX Runtime's CPU kernels are what runs the target.

    Raises:
        UsageError: it is no ONNX file, there is no such target, or ONNX Runtime refuses the file
            and no rule says why.
    """
    found = lint_file(path, target)
    if not (execute and found.target.on_onnxruntime_cpu):
        return FileAudit(found, None)
    try:
        return FileAudit(found, _explain(audit_kernels(path, provider=provider), found))
    except UsageError as error:
        if found.worst() != "error":
            raise
        return FileAudit(found, None, error.message)


def _explain(kernels: Audit, lint: LintResult) -> Audit:
    """Name the rule behind a node for which the runtime's graph shows no reason."""
    nodes = []
    for node in kernels.float_nodes:
        rule = lint.suffering.get(node.name)
        if rule is not None and node.reason.endswith(NOT_FUSED):
            node = replace(node, reason=f"{rule.id} {rule.name}: {rule.title}")
        nodes.append(node)
    return replace(kernels, float_nodes=tuple(nodes))


def describe_audit(found: FileAudit) -> dict[str, Any]:
    """Return what is known of a file as plain values."""
    lint, kernels = found.lint, found.kernels
    return {
        "file": str(lint.path),
        "target": lint.target.name,
        "findings": [
            {
                "rule": finding.rule.id,
                "name": finding.rule.name,
                "level": finding.rule.level,
                "title": finding.rule.title,
                "nodes": [{"node": place.node, "detail": place.detail} for place in finding.places],
                "layers": finding.layers,
                "multiply_adds": finding.share,
                "cost": finding.rule.cost,
                "mend": finding.rule.mend,
                "source": finding.rule.source,
            }
            for finding in lint.findings
        ],
        "refused": found.refused,
        "integer_nodes": None if kernels is None else dict(kernels.integer_nodes),
        "conversions": None if kernels is None else dict(kernels.conversions),
        "float_nodes": None
        if kernels is None
        else [
            {"name": node.name, "op": node.op, "reason": node.reason}
            for node in kernels.float_nodes
        ],
        "provider": None if kernels is None else kernels.provider,
    }


def write_sarif(path: Path, found: Sequence[FileAudit]) -> None:
    """Write the findings of all files as SARIF 2.1.0."""
    log = describe_findings([one.lint for one in found], root=Path())
    with atomic_files(path) as (hidden,):
        hidden.write_text(json_safe(json.dumps(log, indent=2)) + "\n", encoding="utf-8")
