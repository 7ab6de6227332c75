"""The page `docs/audit.md`: written from the catalogue of rules.

python -m tests.lint.catalogue_page        writes the page anew
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dfqonnx.lint import lint as lint
from dfqonnx.lint.rule import RULES, Rule
from dfqonnx.targets.profile import TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
GROUPS = (  # the number from which a group's rules are counted
    (1, "Form and element types"),
    (101, "Where quantizers stand"),
    (201, "Scales, zero points and codes"),
    (301, "What one target does not take"),
)
HEAD = """# The linter

Written by `python -m tests.lint.catalogue_page`; a test compares it with the catalogue.

`dfqonnx audit FILE` holds a quantized ONNX file of any origin against {count} rules and names the
nodes that break one, the share of the file's multiply-adds that suffers, what it costs and what to
do:

| command | does |
| --- | --- |
| `dfqonnx audit NET` | rules of the target that the file records, else of `onnxruntime-cpu` |
| `dfqonnx audit NET --target tensorrt` | rules of another one; `dfqonnx targets` lists them |
| `dfqonnx audit NET --verbose` | the nodes as well |
| `dfqonnx audit *.onnx --fail-on warning` | ends with 1 at a finding of this level or worse |
| `dfqonnx audit NET --strict` | the same, or if a Conv, Gemm or MatMul runs in float |
| `dfqonnx audit NET --sarif audit.sarif` | for code scanning, see [in CI](ci.md) |
| `dfqonnx audit NET --json` | the same for programs |

The rules only read the file. Where ONNX Runtime's CPU kernels run the target, the file is loaded as
well and every node is listed that runs on integers or in float; `--rules-only` leaves that out and
needs no ONNX Runtime. Data kept beside a file are not read, so that large files are quick; rules
about stored codes then have nothing to say. Bodies of If and Loop and functions are not looked
into.

| level | means |
| --- | --- |
| error | the file does not load there, or computes something else than it says |
| warning | multiply-adds run in float or slowly, or numbers lose precision |
| note | it costs a little, or only elsewhere |

A rule stands here only if somebody published it or it was measured. A layer that somebody left in
float on purpose is no finding: the list of float nodes has it.
"""


def render() -> str:
    """Return the page."""
    rules = [RULES[name] for name in RULES]
    parts = [HEAD.format(count=len(rules))]
    for index, (first, title) in enumerate(GROUPS):
        end = GROUPS[index + 1][0] if index + 1 < len(GROUPS) else 1000
        chosen = [rule for rule in rules if first <= int(rule.id[3:]) < end]
        parts.append(f"## {title}\n\n" + "\n".join(_lines(chosen)))
    return "\n".join(parts)


def _lines(rules: list[Rule]) -> Iterator[str]:
    for rule in rules:
        everywhere = len(rule.targets) == len(TARGETS)
        targets = "every target" if everywhere else ", ".join(f"`{name}`" for name in rule.targets)
        yield f"### {rule.id} {rule.name}\n"
        yield f"**{rule.level}**: {rule.title}. Concerns {targets}.\n"
        yield f"- Costs: {rule.cost}."
        yield f"- Mend: {rule.mend}."
        yield f"- Source: {_link(rule.source)}.\n"


def _link(text: str) -> str:
    return re.sub(r"https://[^\s;,()]+", lambda found: f"<{found[0]}>", text)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
