"""Before a run: the widths of every layer, looked for within limits.

    untrained files -> bytes; sensitivity -> noise; profile -> seconds; search -> rules for nodes

The limit of bytes is held by the file itself: each answer is written with untrained numbers, which
take as many bytes as trained ones, and the search goes on from what it was off by.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.search_limits import AUTO_DROP, AUTO_NOISE, AUTO_REPAIRS, LimitName
from dfqonnx.core.bit_choice import BitChoice, StudentForecast
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization import MAX_BITS, BitWidths, NodeRules
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.sensitivity import Sensitivity
from dfqonnx.equalization.equalize import equalize
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.drop_estimate.estimate import explain_classes_of_drop
from dfqonnx.export.opset import check_operators
from dfqonnx.mixed_precision.build_problem import ProblemBuilder, SearchInput
from dfqonnx.mixed_precision.drop_of_noise import drop_of_noise, noise_of_drop
from dfqonnx.mixed_precision.explain_choice import explain_choices
from dfqonnx.mixed_precision.measure_sensitivity import measure_sensitivity
from dfqonnx.mixed_precision.search_widths import (
    FoundWidths,
    LimitWords,
    find_fastest,
    refuse,
    search_widths,
)
from dfqonnx.mixed_precision.solve_widths import Bounds, Measure
from dfqonnx.mixed_precision.width_problem import (
    CandidateWidths,
    Option,
    Solution,
    candidate_widths,
)
from dfqonnx.report.choice_text import describe_choice
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.teacher import Teacher
from dfqonnx.workflows.untrained_files import UntrainedFiles

ROUNDS = 4  # of searching and writing
MEASURED_AS: Mapping[LimitName, Measure] = {"drop": "noise", "size": "bytes", "speed": "seconds"}


@dataclass(frozen=True)
class ChosenWidths:
    """A run with the widths that were chosen, and what is to be said of them."""

    config: RunConfig
    choice: BitChoice


def check_limits(config: RunConfig, teacher: Teacher) -> None:
    """Refuse limits that cannot be looked at for this network or target.

    Raises:
        UsageError: says why, and which limits can.
    """
    assert config.search is not None
    limits, target = config.search.limits, TARGETS[config.target]
    if limits.max_drop is not None and (why := _explain_no_drop(teacher)):
        raise UsageError(
            f"--max-drop {limits.max_drop:g}: no drop can be estimated: {why}; use --max-size or"
            " --min-speed"
        )
    if limits.min_speed is not None and not target.on_onnxruntime_cpu:
        raise UsageError(
            f"--min-speed {limits.min_speed:g}x: speed is measured in ONNX Runtime's CPU kernels,"
            f" which say nothing of {target.runtime}; use --max-size or --max-drop"
        )


def _explain_no_drop(teacher: Teacher) -> str:
    """Return why the drop of a network cannot be estimated; empty where it can."""
    if not teacher.inputs.is_image:
        return "the model reads no image"
    axes = teacher.model.contract.outputs[0].shape if teacher.model.contract.outputs else ()
    if axes is None or len(axes) != 2 or not isinstance(axes[1], int) or axes[1] < 2:
        return "no output holds classes"
    return explain_classes_of_drop(axes[1])


def choose_all_widths(
    configs: Sequence[RunConfig], teacher: Teacher, context: RunContext
) -> tuple[RunConfig, ...]:
    """Return the runs with their widths; those that are looked for are told.

    Raises:
        UsageError, UnsupportedModel: as for one.
    """
    found = []
    for config in configs:
        if config.search is None:
            found.append(config)
            continue
        chosen = choose_widths(config, teacher, context)
        tell_choice(chosen.choice, teacher, context.progress)
        search = replace(config.search, choice=chosen.choice)
        found.append(replace(chosen.config, search=search))
    return tuple(found)


def tell_choice(choice: BitChoice, teacher: Teacher, progress: Progress) -> None:
    """Tell what was chosen."""
    for line in describe_choice(choice, of=teacher.model.source.bytes):
        progress.note(line)


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """What searches with other limits have in common.

    Attributes:
        plans: with the widest weights, by the width of activations.
        narrow: the narrowest of everything.
        widths: what is chosen among.
        sensitivity: what each quantizer costs.
    """

    plans: Mapping[int, QuantizationPlan]
    narrow: QuantizationPlan
    widths: CandidateWidths
    sensitivity: Sensitivity


def choose_widths(
    config: RunConfig,
    teacher: Teacher,
    context: RunContext,
    *,
    measured: MeasuredNetwork | None = None,
) -> ChosenWidths:
    """Return the run with the best widths within its limits.

    What was `measured` for other limits serves again.

    Raises:
        UsageError: no widths meet the limits; the nearest limits are told.
        UnsupportedModel: the target does not have an operator.
    """
    started = time.process_time()
    check_limits(config, teacher)
    check_operators(teacher.model.ir, TARGETS[config.target])
    with tempfile.TemporaryDirectory(prefix="dfqonnx-widths-") as folder:
        files = UntrainedFiles(config=config, teacher=teacher, folder=Path(folder))
        search = _Search(files, config, teacher, context.progress)
        return search.run(started, measured)


def measure_for_search(config: RunConfig, teacher: Teacher, context: RunContext) -> MeasuredNetwork:
    """Return what searches need to know of a network, whatever their limits are."""
    with tempfile.TemporaryDirectory(prefix="dfqonnx-widths-") as folder:
        files = UntrainedFiles(config=config, teacher=teacher, folder=Path(folder))
        return _Search(files, config, teacher, context.progress).measure()


@dataclass(frozen=True, kw_only=True)
class _Written:
    """Widths that were found, and what their file showed: its bytes, and its speed if limited."""

    found: FoundWidths
    config: RunConfig
    bytes: int
    speed: float | None


class _Search:
    """One search: what it is given, and what it finds."""

    def __init__(
        self, files: UntrainedFiles, config: RunConfig, teacher: Teacher, progress: Progress
    ) -> None:
        assert config.search is not None
        self._files, self._config, self._teacher = files, config, teacher
        self._progress, self._limits = progress, config.search.limits
        self._rules = config.search.nodes
        target = TARGETS[config.target]
        self._widths = candidate_widths(target, config.quant.weight_storage)
        self._float_bytes = teacher.model.source.bytes

    def measure(self) -> MeasuredNetwork:
        """Return plans and sensitivities; a size that no widths reach is refused before."""
        widths = self._widths
        plans = {
            bits: self._files.place(BitWidths(max(widths.weights), bits), self._rules)
            for bits in widths.activations
        }
        narrow = self._files.place(
            BitWidths(min(widths.weights), min(widths.activations)), self._rules
        )
        self._check_size(self._files.size(self._files.write(narrow, self._config)))
        sensitivity = measure_network(
            self._teacher,
            plans,
            widths.weights,
            config=self._config,
            progress=self._progress,
        )
        return MeasuredNetwork(plans=plans, narrow=narrow, widths=widths, sensitivity=sensitivity)

    def run(self, started: float, measured: MeasuredNetwork | None) -> ChosenWidths:
        """Return the outcome; `started` is the processor's time when it began."""
        measured = self.measure() if measured is None else measured
        plans, widths, sensitivity = measured.plans, measured.widths, measured.sensitivity
        least = self._files.size(self._files.write(measured.narrow, self._config))
        self._check_size(least)
        given = SearchInput(
            model=self._teacher.model,
            plans=plans,
            narrow=measured.narrow,
            sensitivity=sensitivity,
            quant=self._config.quant,
            widths=widths,
            base_bytes=0.0,
            times=None
            if self._limits.min_speed is None
            else self._files.time_nodes(plans[MAX_BITS]),
        )
        problem = ProblemBuilder(given).build()
        uniform = Solution.of(problem, _uniform(problem.nodes, min(widths.weights)))
        given = replace(given, base_bytes=least - uniform.bytes)
        written = self._settle(given, sensitivity)
        found = written.found
        forecast = self._forecast("mixed", found.solution, sensitivity, speed=written.speed)
        ops = {str(node.name): node.op_type for node in self._teacher.model.ir.graph}
        choice = BitChoice(
            limits=self._limits.text,
            nodes=tuple(explain_choices(found, ops)),
            chosen=replace(forecast, bytes=written.bytes),
            uniform=tuple(self._tell_uniform(ProblemBuilder(given), sensitivity)),
            repaired=sum(_is_repaired(option) for option in found.solution.chosen.values()),
            images=sensitivity.images,
            seconds=time.process_time() - started,
            sensitivity=sensitivity,
        )
        return ChosenWidths(written.config, choice)

    def _check_size(self, least: int) -> None:
        limit = self._limits.max_size
        if limit is not None and limit.of(self._float_bytes) < least:
            narrowest = BitWidths(min(self._widths.weights), min(self._widths.activations))
            raise UsageError(
                f"--max-size {limit.text}: is {limit.of(self._float_bytes):,} bytes, and the file"
                f" has {least:,} with {narrowest.label} {self._where_open()}, the narrowest that"
                f" {self._config.target} gains by; the least possible is --max-size"
                f" {least / self._float_bytes + 5e-4:.3f}x{self._narrower_target()}"
            )

    def _narrower_target(self) -> str:
        """Return in words a target whose files hold weights of fewer bits, or nothing."""
        storage = self._config.quant.weight_storage
        for name in TARGETS:
            fewest = min(candidate_widths(TARGETS[name], storage).weights)
            if fewest < min(self._widths.weights):
                return f", or less with --target {name}, which stores {fewest}-bit weights"
        return ""

    def _where_open(self) -> str:
        """Return in words which nodes have widths that are looked for."""
        given = ["--keep-float"] if self._rules.keep_float else []
        given += ["--bits-for"] if self._rules.bits_for else []
        return f"where {' or '.join(given)} fixes nothing" if given else "everywhere"

    def _bounds(self, given: SearchInput, sensitivity: Sensitivity) -> Bounds:
        limits, noise = self._limits, None
        drop = limits.max_drop
        if limits.is_automatic:
            has_drop = not _explain_no_drop(self._teacher)
            drop, noise = (AUTO_DROP, None) if has_drop else (None, AUTO_NOISE)
        if drop is not None and sensitivity.certainty is not None:
            noise = noise_of_drop(drop, sensitivity.certainty)
        size = None if limits.max_size is None else limits.max_size.of(self._float_bytes)
        seconds = None
        if limits.min_speed is not None and given.times is not None:
            seconds = given.times.float_total / limits.min_speed
        repairs = AUTO_REPAIRS if limits.is_automatic else None
        return Bounds(noise=noise, bytes=size, seconds=seconds, repairs=repairs)

    def _settle(self, given: SearchInput, sensitivity: Sensitivity) -> _Written:
        """Return the widths whose file was seen to meet the limits, its bytes and its speed."""
        bounds = self._bounds(given, sensitivity)
        kept: _Written | None = None
        fastest = 0.0
        for _ in range(ROUNDS):
            found = search_widths(ProblemBuilder(given), bounds)
            if found is None:
                break
            written = self._write(found)
            is_met = self._is_met(written)
            if bounds.seconds is not None and written.speed is not None:
                fastest = max(fastest, written.speed)
                share = written.speed / (self._limits.min_speed or written.speed)
                bounds = replace(bounds, seconds=bounds.seconds * min(1.0, share))
            if is_met and (kept is None or found.solution.noise <= kept.found.solution.noise):
                kept = written
            off = written.bytes - found.solution.bytes
            given = replace(given, base_bytes=given.base_bytes + off)
            if is_met and abs(off) < 1:
                break
        if kept is None and fastest:
            kept, fastest = self._try_others(given, bounds, fastest)
        if kept is not None:
            return kept
        if 0 < fastest < (self._limits.min_speed or 0.0):
            raise UsageError(
                f"{self._limits.text}: the fastest file that was found runs at {fastest:.2f} times"
                " the float model's speed on this machine; ask for less, and measure on an idle one"
            )
        raise refuse(ProblemBuilder(given), bounds, self._words(given, sensitivity))

    def _try_others(
        self, given: SearchInput, bounds: Bounds, fastest: float
    ) -> tuple[_Written | None, float]:
        """Return the first of other widths whose file meets the limits, and the most speed seen.

        Times of single nodes do not hold what a change between float and codes takes, so the file
        decides: of the least noise, where the nodes that make most of it lie beside each other as a
        rule, and of the least seconds.
        """
        builder = ProblemBuilder(given)
        quiet = search_widths(builder, replace(bounds, noise=None, seconds=None))
        for found in (quiet, find_fastest(builder, bounds)):
            if found is None or found.solution.noise > (bounds.noise or math.inf):
                continue
            written = self._write(found)
            fastest = max(fastest, written.speed or 0.0)
            if self._is_met(written):
                return written, fastest
        return None, fastest

    def _write(self, found: FoundWidths) -> _Written:
        config = self._apply(found.solution)
        path = self._files.write(self._files.place(config.quant.bits, config.nodes), config)
        speed = None if self._limits.min_speed is None else self._files.speed(path)
        return _Written(found=found, config=config, bytes=self._files.size(path), speed=speed)

    def _is_met(self, written: _Written) -> bool:
        limits = self._limits
        size = None if limits.max_size is None else limits.max_size.of(self._float_bytes)
        is_small = size is None or written.bytes <= size
        return is_small and (written.speed is None or written.speed >= (limits.min_speed or 0.0))

    def _words(self, given: SearchInput, sensitivity: Sensitivity) -> LimitWords:
        certainty = sensitivity.certainty
        given_as = {MEASURED_AS[name]: text for name, text in self._limits.options.items()}
        return LimitWords(
            given_as,
            self._float_bytes,
            0.0 if given.times is None else given.times.float_total,
            lambda noise: 0.0 if certainty is None else drop_of_noise(noise, certainty),
        )

    def _apply(self, solution: Solution) -> RunConfig:
        """Return the run with the widths of a solution: the most frequent ones, and exceptions."""
        layers = {
            node: BitWidths(option.weights, option.activations)
            for node, option in solution.chosen.items()
            if option.weights is not None and option.activations is not None
        }
        counts = list(layers.values())
        base = max(dict.fromkeys(counts), key=counts.count) if counts else self._config.quant.bits
        floats = [node for node, option in solution.chosen.items() if option.is_float]
        others = ((node, bits) for node, bits in layers.items() if bits != base)
        nodes = NodeRules(
            keep_float=(*self._rules.keep_float, *floats),
            bits_for=(*self._rules.bits_for, *others),
        )
        return replace(self._config, quant=replace(self._config.quant, bits=base), nodes=nodes)

    def _forecast(
        self,
        name: str,
        solution: Solution,
        sensitivity: Sensitivity,
        *,
        speed: float | None = None,
    ) -> StudentForecast:
        certainty = sensitivity.certainty
        return StudentForecast(
            name=name,
            noise=solution.noise,
            drop=None if certainty is None else drop_of_noise(solution.noise, certainty),
            bytes=int(solution.bytes),
            speed=speed,
        )

    def _tell_uniform(
        self, builder: ProblemBuilder, sensitivity: Sensitivity
    ) -> list[StudentForecast]:
        """Return what is expected of students with equal widths everywhere."""
        problem = builder.build()
        return [
            self._forecast(
                BitWidths(bits, MAX_BITS).label,
                Solution.of(problem, _uniform(problem.nodes, bits)),
                sensitivity,
            )
            for bits in sorted(self._widths.weights, reverse=True)
        ]


def measure_network(
    teacher: Teacher,
    plans: Mapping[int, QuantizationPlan],
    weight_bits: Sequence[int],
    *,
    config: RunConfig,
    progress: Progress,
) -> Sensitivity:
    """Return what each quantizer of the equalized network costs, with the ranges of a run."""
    spec = replace(config.recipe.equalization, cross_layer=False)
    network = equalize(
        teacher.program,
        plans[MAX_BITS],
        teacher.model.statistics,
        spec=spec,
        inputs=teacher.inputs,
        progress=progress,
    )
    return measure_sensitivity(
        network.program,
        [network.plan, *(plan for bits, plan in plans.items() if bits != MAX_BITS)],
        weight_bits,
        inputs=teacher.inputs,
        progress=progress,
    )


def _uniform(nodes: Mapping[str, Sequence[Option]], bits: int) -> dict[str, Option]:
    """Return the option of each node with so many weight bits, or with those that it has."""
    return {
        node: next(
            (o for o in options if o.weights == bits and o.activations == MAX_BITS), options[0]
        )
        for node, options in nodes.items()
    }


def _is_repaired(option: Option) -> bool:
    return option.is_float or (option.activations or 0) > MAX_BITS
