"""Findings as SARIF 2.1.0, the form that code scanning of build servers reads.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

One run, every rule of the catalogue, and one result for each finding of each file. A file of ONNX
has no lines, so a result stands on line 1, and its nodes are logical locations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dfqonnx.foreign_text import MAX_LINE, printable
from dfqonnx.lint.lint import LintResult
from dfqonnx.lint.rule import RULES, Rule, RuleFinding
from dfqonnx.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_MOST_NODES = 100  # of one finding: viewers show few, and servers limit a result
_URL = re.compile(r"https://[^\s;,()]+")


def describe_findings(results: Sequence[LintResult], *, root: Path) -> dict[str, Any]:
    """Return a SARIF log of the files' findings; paths below `root` are relative to it."""
    order = {name: index for index, name in enumerate(RULES)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "dfqonnx",
                        "semanticVersion": __version__,
                        "rules": [_describe_rule(RULES[name]) for name in order],
                    }
                },
                "columnKind": "utf16CodeUnits",
                "results": list(_describe_results(results, order, root)),
            }
        ],
    }


def _describe_rule(rule: Rule) -> dict[str, Any]:
    title = rule.title[:1].upper() + rule.title[1:]
    sentences = f"{title}: {rule.cost}."
    described: dict[str, Any] = {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": f"{title}."},
        "fullDescription": {"text": sentences},
        "help": {"text": f"{sentences} What to do: {rule.mend}. Source: {rule.source}."},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"tags": ["onnx", "quantization"], "targets": list(rule.targets)},
    }
    address = _URL.search(rule.source)
    if address is not None:
        described["helpUri"] = address[0]
    return described


def _describe_results(
    results: Sequence[LintResult], order: dict[str, int], root: Path
) -> Iterator[dict[str, Any]]:
    for result in results:
        location = _locate(result.path, root)
        for finding in result.findings:
            rule = finding.rule
            key = f"{location['uri']}\n{rule.id}\n{result.target.name}"
            yield {
                "ruleId": rule.id,
                "ruleIndex": order[rule.id],
                "level": rule.level,
                "message": {"text": say_finding(finding)},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": location,
                            "region": {"startLine": 1},
                        },
                        "logicalLocations": [
                            {"fullyQualifiedName": printable(place.node), "kind": "node"}
                            for place in finding.places[:_MOST_NODES]
                        ],
                    }
                ],
                "partialFingerprints": {"ruleOfFile/v1": hashlib.sha256(key.encode()).hexdigest()},
                "properties": {
                    "target": result.target.name,
                    "nodes": len(finding.places),
                    "multiplyAdds": finding.share,
                },
            }


def say_finding(finding: RuleFinding) -> str:
    """Return a finding as one line."""
    rule, first = finding.rule, finding.places[0]
    share = "" if finding.share is None else f", {show_share(finding.share)} of the multiply-adds"
    count = f"{len(finding.places)} node{'s' * (len(finding.places) > 1)}"
    detail = f"; {first.detail}" if first.detail else ""
    where = f"{count}{share}, such as {first.node!r}{detail}"
    title = rule.title[:1].upper() + rule.title[1:]
    text = f"{title} ({where}): {rule.cost}. What to do: {rule.mend}."
    return printable(text, most=MAX_LINE)


def show_share(share: float) -> str:
    """Return a share of multiply-adds as people read it."""
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _locate(path: Path, root: Path) -> dict[str, str]:
    """Return where a file is: relative to `root` if it lies below it, else from the root of all."""
    full = path.resolve()
    if full.is_relative_to(root.resolve()):
        return {"uri": quote(full.relative_to(root.resolve()).as_posix()), "uriBaseId": "%SRCROOT%"}
    return {"uri": full.as_uri()}
