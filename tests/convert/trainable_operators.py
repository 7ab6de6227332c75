"""The table `dfqonnx/graph/trainable_operators.json`: what the registry says of its operators.

python -m tests.convert.trainable_operators        writes it anew
"""

from __future__ import annotations

import json

import dfqonnx.convert.ops  # noqa: F401  (registers the operators)
from dfqonnx.convert.op_registry import OPERATORS
from dfqonnx.graph.translatable import TABLE


def table_text() -> str:
    """The table as it is published; operators of other domains are left out."""
    entries = {}
    for name in OPERATORS:
        known = OPERATORS[name]
        if not known.domain:
            entries[name] = {
                "least": known.least,
                "most": known.most,
                "attributes": sorted(known.attributes),
                "required": sorted(known.required),
                "choices": {key: list(values) for key, values in sorted(known.choices.items())},
            }
    return json.dumps(entries, indent=1) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table_text(), encoding="utf-8")
