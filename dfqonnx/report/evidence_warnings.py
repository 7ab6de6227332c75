"""Named warnings about the evidence of a result, and about what makes its file less useful.

| name | when | rules that would hold / any rule |
| --- | --- | --- |
| preprocess-contradicts-file | it is not the one that a file records | any, on any number |
| float-model-at-chance | top-1 (mAP, mIoU, characters) may be guesses | any, on these inputs |
| labels-permuted | the labels fit better in another order | any, of those that need labels |
| agreement-near-chance | its interval reaches down to that of independent choices | would hold |
| outputs-hardly-vary | one class, or outputs that stay where they are on all inputs | would hold |
| outputs-vary-little | the same, less clearly | |
| few-images | fewer than 100 | |
| low-sqnr-at-8-bits | less than 20 dB | |
| low-sqnr | less than 10 dB at fewer bits, where outputs are no classes | |
| training-given-up | the untrained student was exported | |
| mostly-float | more than half of the multiply-adds | |
| larger-than-float, slower-than-float | the file checks say so | |

Where the labels are permuted, the float model is at chance because of them, so its top-1 says
nothing against the inputs. Agreement near chance, and outputs that hardly vary, may come from the
inputs or from a student that lost its way: rules that fail stay failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from dfqonnx.evaluation.evidence import ClassEvidence, is_at_chance
from dfqonnx.evaluation.output_reach import OutputReach
from dfqonnx.report.build import NOT_SLOWER, SMALLER
from dfqonnx.report.number_format import format_interval, to_percent
from dfqonnx.report.report import Report
from dfqonnx.report.verdict import EvidenceWarning

FEW_IMAGES = 100
LEAST_DECIBELS = 20.0  # of eight bits
FEW_DECIBELS = 10.0  # at fewer bits: a tenth of an output's variance
LEAST_REACH, LOW_REACH = 0.1, 0.25  # see evaluation/output_reach
MOST_FLOAT = 0.5  # of the multiply-adds
SHARES, NOTHING = frozenset({"map50", "miou", "characters"}), 0.01  # of labels
FEWEST_CHOSEN = 8  # images of one class that say something


@dataclass(frozen=True, kw_only=True)
class EvidenceFacts:
    """What the warnings are made of, beside the report itself.

    Attributes:
        contradictions: what a file records against the preprocessing used, one sentence a file.
        classes: of the images that the report compares on; None without classes.
        reach: how far these images drive the outputs.
        share_in_float: of all multiply-adds; None where it is not known.
    """

    contradictions: tuple[str, ...] = ()
    classes: ClassEvidence | None = None
    reach: tuple[OutputReach, ...] = ()
    share_in_float: float | None = None


def add_evidence(report: Report, facts: EvidenceFacts) -> Report:
    """Return the report with its warnings; rules must be applied after this."""
    found = (
        *_warn_of_inputs(facts),
        *_warn_of_labels(report, facts.classes),
        *_warn_of_measures(report),
        *_warn_of_classes(report, facts.classes),
        *_warn_of_outputs(report),
        *_warn_of_reach(facts),
        *_warn_of_images(report),
        *_warn_of_student(report, facts.share_in_float),
        *_warn_of_cost(report),
    )
    return dataclasses.replace(report, evidence=found)


def _warn_of_inputs(facts: EvidenceFacts) -> Iterator[EvidenceWarning]:
    for sentence in facts.contradictions:
        yield EvidenceWarning(
            name="preprocess-contradicts-file",
            found=sentence,
            advice="Leave --preprocess out, or give the one that both files were made for.",
            effect="no judgment",
            scope="everything",
        )


def _warn_of_labels(report: Report, classes: ClassEvidence | None) -> Iterator[EvidenceWarning]:
    top1 = report.teacher.top1
    if classes is None or top1 is None:
        return
    fit = classes.permutation
    is_permuted = fit is not None and fit.is_better
    if is_permuted and fit is not None:
        yield EvidenceWarning(
            name="labels-permuted",
            found=(
                f"In another order of the classes, fitted on other images, the float model is right"
                f" on {100 * fit.permuted:.1f} % of the images, as the labels are given on"
                f" {100 * fit.given:.1f} % (p = {fit.p_value:.1g})."
            ),
            advice="Check that labels count the classes in the order of the model's output.",
            effect="no judgment",
            scope="labels",
        )
    if is_at_chance(top1, 100 / classes.classes):
        yield EvidenceWarning(
            name="float-model-at-chance",
            found=(
                f"The float model itself is right on {format_interval(top1, '%')} of the images;"
                f" guessing one of {classes.classes:,} classes gives"
                f" {100 / classes.classes:.2g} %."
            ),
            advice="Check the labels and --preprocess, or give more images.",
            effect="no judgment",
            scope="labels" if is_permuted else "inputs",
        )


def _warn_of_measures(report: Report) -> Iterator[EvidenceWarning]:
    for measure in report.measures:
        if measure.name in SHARES and measure.teacher is not None and measure.teacher < NOTHING:
            yield EvidenceWarning(
                name="float-model-at-chance",
                found=(
                    f"The float model itself reaches a {measure.name} of {measure.teacher:.2g}"
                    f" against the labels of {measure.n:,} inputs."
                ),
                advice="Check the labels and --preprocess.",
                effect="no judgment",
            )


def _warn_of_classes(report: Report, classes: ClassEvidence | None) -> Iterator[EvidenceWarning]:
    share = report.agreement.best_known
    if classes is None or share is None:
        return
    if classes.chosen == 1 and share.n >= FEWEST_CHOSEN:
        yield EvidenceWarning(
            name="outputs-hardly-vary",
            found=f"The float model chooses one and the same class for all {share.n:,} images.",
            advice="Give images of several classes with --eval-data, and check --preprocess.",
            effect="no pass",
        )
    elif is_at_chance(share, classes.chance):
        yield EvidenceWarning(
            name="agreement-near-chance",
            found=(
                f"The two models agree on {format_interval(to_percent(share), '%')} of the images;"
                f" independent choices would on {100 * classes.chance:.3g} %."
            ),
            advice=(
                "Give images of more classes with --eval-data, and check --preprocess; if that is"
                " right, the student is lost: take more bits."
            ),
            effect="no pass",
        )


def _warn_of_outputs(report: Report) -> Iterator[EvidenceWarning]:
    for output in report.agreement.outputs:
        is_still = output.sqnr_db is None and not output.exact
        if is_still and output.kind not in {"labels", "varying"} and report.agreement.images > 1:
            yield EvidenceWarning(
                name="outputs-hardly-vary",
                found=f"Output {output.name} of the float model is the same for all inputs.",
                advice="Give real inputs with --eval-data, and check --preprocess.",
                effect="no pass",
            )


def _warn_of_reach(facts: EvidenceFacts) -> Iterator[EvidenceWarning]:
    driven = sorted(facts.reach, key=lambda each: each.reach)
    if driven and driven[0].reach < LOW_REACH:
        least = driven[0]
        is_still = least.reach < LEAST_REACH
        yield EvidenceWarning(
            name="outputs-hardly-vary" if is_still else "outputs-vary-little",
            found=(
                f"Output {least.output} of the float model varies by {least.reach:.2f} of what its"
                f" last layer could make of such features, over {least.inputs} inputs."
            ),
            advice="The inputs hardly drive the network: give real ones with --eval-data.",
            effect="no pass" if is_still else "warn",
        )


def _warn_of_images(report: Report) -> Iterator[EvidenceWarning]:
    agreement = report.agreement
    count = agreement.images
    if 0 < count < FEW_IMAGES:
        inputs = f"{count} {agreement.image_set} input{'' if count == 1 else 's'}"
        yield EvidenceWarning(
            name="few-images",
            found=f"Agreement and distances rest on {inputs}.",
            advice="Give some hundred inputs with --eval-data.",
        )


def _is_below(decibels: float | None, least: float) -> bool:
    return decibels is not None and decibels < least


def _warn_of_student(report: Report, share: float | None) -> Iterator[EvidenceWarning]:
    bits, decibels = report.bits, report.agreement.sqnr_db
    is_eight = bits is None or min(bits.weights, bits.activations) >= 8
    if is_eight and _is_below(decibels, LEAST_DECIBELS):
        yield EvidenceWarning(
            name="low-sqnr-at-8-bits",
            found=f"The worst output is at {decibels:.1f} dB; eight bits usually reach 25 to 40.",
            advice="Look for the noisy layer in report.html, or measure with --eval-data.",
        )
    elif not is_eight and report.agreement.kl is None and _is_below(decibels, FEW_DECIBELS):
        yield EvidenceWarning(
            name="low-sqnr",
            found=f"The worst output is at {decibels:.1f} dB: over a tenth of it is noise.",
            advice="Expect to lose several points; measure with --eval-data, or take more bits.",
        )
    training = report.training
    if training is not None and training.steps > 0 and not training.kept:
        yield EvidenceWarning(
            name="training-given-up",
            found=f"The student was exported as it was before training: {training.reason}.",
            advice="Try another --seed, a longer --budget, or more bits.",
        )
    if share is not None and share > MOST_FLOAT:
        yield EvidenceWarning(
            name="mostly-float",
            found=f"{100 * share:.0f} % of all multiply-adds stay in float.",
            advice="The list of nodes in float says why for each.",
        )


def _warn_of_cost(report: Report) -> Iterator[EvidenceWarning]:
    failing = {gate.rule: gate for gate in report.gates if gate.holds is False}
    for rule, name, advice in (
        (SMALLER, "larger-than-float", "The model has few weights beside its quantizers."),
        (NOT_SLOWER, "slower-than-float", "The audit lists what runs in float; measure again."),
    ):
        if rule in failing:
            found = f"The student has {failing[rule].value} of the float model."
            yield EvidenceWarning(name=name, found=found, advice=advice)
