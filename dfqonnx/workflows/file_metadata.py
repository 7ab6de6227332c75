"""What a file that a run writes says about itself."""

from __future__ import annotations

import hashlib

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.input_values import INPUT_KEY, format_input
from dfqonnx.config.recipe import write_recipe
from dfqonnx.export.metadata import describe, describe_rules
from dfqonnx.version import __version__
from dfqonnx.workflows.teacher import Teacher


def describe_run_file(config: RunConfig, teacher: Teacher) -> dict[str, str]:
    """Return the metadata of the file that a run with this configuration writes."""
    recipe = hashlib.sha256(write_recipe(config.recipe).encode()).hexdigest()
    metadata = describe(
        version=__version__,
        quant=config.quant,
        target=config.target,
        seed=config.seed,
        recipe=recipe[:16],
        teacher=teacher.model.source.sha256,
        inputs=teacher.inputs.preprocessing,
        image_size=teacher.inputs.shape if teacher.model.open_axes else None,
    )
    metadata.update({INPUT_KEY + name: format_input(v) for name, v in config.inputs.items()})
    metadata.update(describe_rules(config.nodes))
    return metadata
