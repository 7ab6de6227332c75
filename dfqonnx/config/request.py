"""From the texts that a person writes to configurations, for the command line and the API."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfqonnx.config.commands import Device, RunConfig, ValidateConfig
from dfqonnx.config.effort import Effort, apply_effort
from dfqonnx.config.gates import GateRule, parse_gates
from dfqonnx.config.input_values import format_input, read_inputs
from dfqonnx.config.measuring import MeasuringConfig
from dfqonnx.config.placement import read_rules
from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.config.recipe import Recipe, read_recipe
from dfqonnx.config.search_limits import MIXED, SearchLimits, WidthSearch
from dfqonnx.core.input_format import Preprocessing, parse_image_size
from dfqonnx.core.quantization import MAX_BITS, BitWidths, QuantizationConfig, Storage
from dfqonnx.errors import UsageError
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

Preprocess = str | Path | Preprocessing | None
Gates = Sequence[str | GateRule]
ImageSize = str | int | Sequence[int] | None
Inputs = Sequence[str] | Mapping[str, Any]


def run_request(
    model: str | Path,
    bits: str | int | BitWidths,
    *,
    preprocess: Preprocess = None,
    eval_data: str | Path | None = None,
    images: str | Path | None = None,
    recipe: str | Path | Recipe = "default",
    scale: str | None = None,
    gates: Gates = (),
    strict: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    image_size: ImageSize = None,
    inputs: Inputs = (),
    budget: str | float | None = None,
    effort: Effort = "default",
    memory: str | int | None = None,
    strict_ends: int | None = None,
    weight_storage: Storage = "auto",
    device: Device = "auto",
    target: str = DEFAULT_TARGET,
    measuring: MeasuringConfig | None = None,
    calibrate_with: str | Path | None = None,
    keep_float: Sequence[str] = (),
    bits_for: Sequence[str] | Mapping[str, str | int] = (),
    limits: SearchLimits | None = None,
) -> RunConfig:
    """Return the configuration of a run; a UsageError says what cannot be read."""
    widths, model = _read_widths(bits, limits, strict_ends), Path(model)
    seconds = parse_duration(budget) if isinstance(budget, str) else budget
    chosen = apply_effort(_read_recipe(recipe, scale), effort, budget=seconds)
    label = widths.label if limits is None else MIXED
    folder, file = split_out(f"{model.stem}-{label}" if out is None else out)
    nodes = read_rules(keep_float, bits_for, chosen.placement.rules())
    quant = QuantizationConfig(widths, first_last_bits=strict_ends, weight_storage=weight_storage)
    return RunConfig(
        model=model,
        quant=quant,
        nodes=nodes,
        search=None if limits is None else WidthSearch(limits, nodes),
        out=folder,
        file=file,
        preprocess=_preprocessing(preprocess),
        recipe=chosen,
        eval_data=None if eval_data is None else Path(eval_data),
        images=None if images is None else Path(images),
        calibrate_with=None if calibrate_with is None else Path(calibrate_with),
        seed=seed,
        device=device,
        target=target,
        budget=seconds,
        effort=effort,
        memory=parse_memory(memory) if isinstance(memory, str) else memory,
        gates=parse_gates(gates, custom=measuring is not None and measuring.metric is not None),
        strict=strict,
        image_size=read_image_size(image_size),
        measuring=measuring or MeasuringConfig(),
        inputs=read_inputs(inputs),
    )


def _read_recipe(recipe: str | Path | Recipe, scale: str | None) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else read_recipe(str(recipe), scale=scale)


def _read_widths(
    bits: str | int | BitWidths, limits: SearchLimits | None, strict_ends: int | None
) -> BitWidths:
    """Return the widths of a run; the widest where limits look for them."""
    if limits is None:
        return bits if isinstance(bits, BitWidths) else BitWidths.parse(str(bits))
    if strict_ends is not None:
        raise UsageError(
            f"--strict-ends {strict_ends}: widths are looked for, those of the first and last layer"
            " too; leave it away, or use --bits-for for these layers"
        )
    return BitWidths(MAX_BITS, MAX_BITS)


def read_targets(text: str) -> tuple[str, ...]:
    """Return the targets in a text such as `onnxruntime-cpu,openvino`.

    Raises:
        UsageError: one is unknown, or named twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        TARGETS[name]
    if len(set(names)) < len(names):
        raise UsageError(f"--target {text}: a target is named twice")
    return names


def split_by_target(config: RunConfig, names: Sequence[str]) -> tuple[RunConfig, ...]:
    """Return a configuration for each target; of several, the names join those of what is written.

    Raises:
        UsageError: a target does not take the widths.
    """
    if len(names) == 1:
        return (replace(config, target=names[0]),)
    file = config.file
    return tuple(
        replace(
            config,
            target=name,
            out=config.out.with_name(f"{config.out.name}-{name}"),
            file=None if file is None else file.with_name(f"{file.stem}-{name}{file.suffix}"),
        )
        for name in names
    )


def split_out(out: str | Path) -> tuple[Path, Path | None]:
    """Return the output folder, and where the model stands beside it: NAME.onnx, or nowhere."""
    path = Path(out)
    if path.suffix.lower() != ".onnx" or path.is_dir():
        return path, None
    return path.with_suffix(""), path


def validate_request(
    teacher: str | Path,
    student: str | Path,
    *,
    preprocess: Preprocess = None,
    eval_data: str | Path | None = None,
    images: str | Path | None = None,
    gates: Gates = (),
    strict: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    image_size: ImageSize = None,
    measuring: MeasuringConfig | None = None,
    inputs: Inputs = (),
) -> ValidateConfig:
    """Return the configuration of a validation.

    Raises:
        UsageError: some text cannot be read, or a value is out of range.
    """
    return ValidateConfig(
        teacher=Path(teacher),
        student=Path(student),
        preprocess=_preprocessing(preprocess),
        eval_data=None if eval_data is None else Path(eval_data),
        images=None if images is None else Path(images),
        out=None if out is None else Path(out),
        seed=seed,
        gates=parse_gates(gates, custom=measuring is not None and measuring.metric is not None),
        strict=strict,
        image_size=read_image_size(image_size),
        measuring=measuring or MeasuringConfig(),
        inputs=read_inputs(inputs),
    )


def command_of(config: RunConfig) -> str:
    """Return the command that does the same run again."""
    widths = f"--bits {config.quant.bits.label}"
    widths = widths if config.search is None else config.search.limits.text
    nodes = config.nodes if config.search is None else config.search.nodes
    words = ["dfqonnx", "run", "--model", str(config.model), *widths.split()]
    words += ["--seed", str(config.seed), "--recipe", "recipe.yaml"]
    for flag, value in (
        ("--strict-ends", config.quant.first_last_bits),
        ("--image-size", config.image_size and "x".join(map(str, config.image_size))),
        ("--target", None if config.target == DEFAULT_TARGET else config.target),
        ("--preprocess", None if config.preprocess is None else config.preprocess.name),
        ("--budget", None if config.budget is None else f"{config.budget:g}s"),
        ("--memory", None if config.memory is None else f"{config.memory}B"),
        ("--calibrate-with", config.calibrate_with),
        ("--metric", config.measuring.metric),
        ("--head", config.measuring.head),
        ("--fit", config.measuring.fit),
        ("--pixel-range", config.measuring.pixel_range_text),
        ("--classes", config.measuring.classes),
    ):
        words += [] if value is None else [flag, str(value)]
    if config.quant.weight_storage != "auto":
        words += ["--weight-storage", config.quant.weight_storage]
    for name, array in config.inputs.items():
        words += ["--input", f"{name}={format_input(array)}"]
    for pattern in nodes.keep_float:
        words += ["--keep-float", pattern]
    for pattern, bits in nodes.bits_for:
        words += ["--bits-for", f"{pattern}={bits.label}"]
    for rule in config.gates:
        words += ["--gate", rule.text]
    words += ["--strict"] if config.strict else []
    return shlex.join(words)


def _preprocessing(preprocess: Preprocess) -> Preprocessing | None:
    if preprocess is None or isinstance(preprocess, Preprocessing):
        return preprocess
    return read_preprocess(str(preprocess))


def read_image_size(given: ImageSize) -> tuple[int, ...] | None:
    """Return (height, width), (both,) or None from a text, a number or a pair.

    Raises:
        UsageError: it cannot be read.
    """
    if given is None:
        return None
    text = str(given) if isinstance(given, (str, int)) else "x".join(map(str, given))
    return parse_image_size(text)


def parse_duration(text: str) -> float:
    """Return the seconds in `30s`, `10m` or `1h`.

    Raises:
        UsageError: not a number followed by s, m or h.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    if match is None:
        raise UsageError(f"--budget: cannot read {text!r}; write 30s, 10m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def parse_memory(text: str) -> int:
    """Return the bytes in `4GiB`, `512MiB`, `2GB` or `3000000000B`.

    Raises:
        UsageError: not a number followed by such a unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", text.strip().lower())
    if match is None or (match[2] is None and not text.strip().lower().endswith("b")):
        raise UsageError(f"--memory: cannot read {text!r}; write 4GiB, 512MiB or 2GB")
    power = "kmgt".index(match[2]) + 1 if match[2] else 0
    decimal = match[3] == "" and text.strip().lower().endswith("b")
    return int(float(match[1]) * (1000 if decimal else 1024) ** power)
