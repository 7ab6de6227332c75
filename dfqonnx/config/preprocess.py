"""What `--preprocess` may name: a preset, or a YAML file."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.core.input_format import PRESETS, Preprocessing
from dfqonnx.errors import UsageError, did_you_mean


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
    raise UsageError(
        f"--preprocess {text!r} is not a preset{did_you_mean(text, PRESETS, label='Presets')} "
        "A YAML file with scale, mean, std, layout and channels works as well."
    )
