"""What `--preprocess` may name: a preset, or a YAML file."""

from __future__ import annotations

import difflib
from pathlib import Path

from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.core.input_format import PRESETS, Preprocessing
from dfqonnx.errors import UsageError


def read_preprocess(text: str) -> Preprocessing:
    """Return the input specification that `text` names.

    Raises:
        UsageError: neither a preset nor a readable YAML file with the right keys.
    """
    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return Preprocessing.parse(read_mapping(path, what="preprocess"), name=path.stem)
    near = difflib.get_close_matches(text, PRESETS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(
        f"--preprocess {text!r}: not a preset.{hint} Presets: {', '.join(PRESETS)}; "
        "or give a YAML file (scale, mean, std, layout, channels)."
    )
