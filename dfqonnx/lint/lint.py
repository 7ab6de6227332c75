"""A file against every rule that concerns a target.

share of a finding  =  multiply-adds of the layers that suffer / those of all layers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfqonnx.graph.load import read_proto
from dfqonnx.lint import rules_of_numbers as rules_of_numbers
from dfqonnx.lint import rules_of_paths as rules_of_paths
from dfqonnx.lint import rules_of_placement as rules_of_placement
from dfqonnx.lint import rules_of_targets as rules_of_targets
from dfqonnx.lint import rules_of_types as rules_of_types
from dfqonnx.lint.qdq_graph import QdqGraph, label
from dfqonnx.lint.rule import LEVELS, RULES, Level, Place, Rule, RuleFinding
from dfqonnx.targets.profile import TARGETS, TargetProfile, recorded_target


@dataclass(frozen=True, kw_only=True)
class LintResult:
    """Every broken rule of one file, the worst first."""

    path: Path
    target: TargetProfile
    findings: tuple[RuleFinding, ...]
    layers: int  # Conv, Gemm and the like in the file
    quantizers: int  # QuantizeLinear and DequantizeLinear; 0 for a float model
    suffering: Mapping[str, Rule]  # layers, by node name, with the worst rule that they suffer from

    def worst(self) -> Level | None:
        """Return the worst level found; None without findings."""
        found = {finding.rule.level for finding in self.findings}
        return next((level for level in LEVELS if level in found), None)

    def reaches(self, level: Level) -> bool:
        """Tell whether something at least as bad as `level` was found."""
        worst = self.worst()
        return worst is not None and LEVELS.index(worst) <= LEVELS.index(level)


def lint_file(path: Path, target: str | None = None) -> LintResult:
    """Check the file at `path` against the rules of `target`, else of the target it records.

    Nothing is executed, and data kept beside the file are not read.

    Raises:
        UsageError: it is no ONNX file, or there is no target of that name.
    """
    proto = read_proto(path)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    profile = recorded_target(metadata) if target is None else TARGETS[target]
    return _lint_graph(QdqGraph(proto), profile, path)


def _lint_graph(graph: QdqGraph, target: TargetProfile, path: Path) -> LintResult:
    found = []
    for name in RULES:
        rule = RULES[name]
        if rule.applies(target):
            places = tuple(dict.fromkeys(rule.check(graph, target)))
            if places:
                found.append(_summarize(rule, places, graph.multiply_adds))
    found.sort(key=lambda finding: (LEVELS.index(finding.rule.level), -(finding.share or 0.0)))
    quantizers = (*graph.of("QuantizeLinear"), *graph.of("DequantizeLinear"))
    suffering: dict[str, Rule] = {}
    for finding in found:
        for output in (name for each in finding.places for name in each.layers):
            suffering.setdefault(label(graph.layers[output]), finding.rule)
    return LintResult(
        path=path,
        target=target,
        findings=tuple(found),
        layers=len(graph.layers),
        quantizers=len(quantizers),
        suffering=suffering,
    )


def _summarize(
    rule: Rule, places: tuple[Place, ...], multiply_adds: Mapping[str, int | None]
) -> RuleFinding:
    suffering = frozenset[str]().union(*(place.layers for place in places))
    known = [count for count in multiply_adds.values() if count is not None]
    share = None
    if suffering and known and len(known) == len(multiply_adds) and sum(known):
        share = sum(multiply_adds[name] or 0 for name in suffering) / sum(known)
    return RuleFinding(rule=rule, places=places, layers=len(suffering), share=share)
