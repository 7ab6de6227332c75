"""The page of `ancestors.py`: what training gains, and what a method's own images add."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tables.figures import figure, line
from tables.records import read_lines
from tables.runs import DASH

OWN, LEAVES = "own", "leaves"  # images of a run: the recipe's, or dead leaves in their place
NOT_MEASURED = "not measured"
AS_THE_REST = "as the rest"  # first and last layer


@dataclass(frozen=True)
class Trained:
    """One run of a recipe."""

    model: str
    recipe: str
    bits: str
    ends: str  # bits of first and last layer, or `as the rest`
    seed: int
    images: str  # OWN or LEAVES
    teacher: float  # top-1 of the float network, %
    untrained: float | None  # points that the student loses before training
    drop: float  # and as it was left
    kept: bool
    seconds: float
    machine: str

    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """What tells it from all other runs."""
        return self.model, self.recipe, self.bits, self.ends, self.seed, self.images


@dataclass(frozen=True)
class Pictured:
    """What the network makes of images of one recipe, none of them painted beside."""

    recipe: str
    count: int
    divergence: float
    confidence: float  # mean of the highest probability
    rank: float  # effective rank of the features
    spread: float  # variance of features within a class over that of the test images; see page
    picture: str  # path of a contact sheet, or nothing


def read_pictured(path: Path) -> list[Pictured]:
    """Return the records of images in a file; none where it is not there."""
    return read_lines(path, lambda line: Pictured(**line), "images")


HEAD = """# The methods side by side

Made by `python pipelines/benchmarks/ancestors.py`; edit nothing by hand. Every recipe that trains, at `quick` scale: what its untrained student loses (points of top-1), what
the trained one loses, and the difference, mean over seeds (least .. most). *Leaves alone* is the same recipe with dead leaves in place of its images: *own images add* is what
the method's images gain beyond these. Recipes paint leaves beside a generator's images at this scale, which is ours and not the papers'. Labeled images measured, and chose nothing.
Where a row has no numbers, it was not measured: such a row needs an idle machine for hours. `paper` scales were not run. One seed says little at four bits, where untrained students lose
about a point: the default's trained ones lost 0.57, 0.56 and 0.78 at three (`TRIALS.md`). Seconds are of a machine that did other work beside.
All of these runs moved codes by Adam; the default and `quick` scales take Muon since (`docs/decisions.md`, 16a), for which no row was made anew.
"""  # noqa: E501 (paragraphs)
COLUMNS = (
    "recipe", "bits", "first/last", "seeds", "untrained", "trained", "gain", "kept", "leaves alone",
    "own images add", "seconds",
)  # fmt: skip
IMAGES = """
## Images

Of a few hundred images of each recipe, none of them painted beside: the divergence from what BatchNormalization remembers (`dfqonnx similarity`, KL of the images from the training data), the
mean highest probability, the effective rank of the features that the last layer reads (exponential of the entropy of their covariance's eigenvalues), and the variance of unit features within
the network's own classes. Dead leaves stand beside as `dfq`'s. No real image took part. *Gain* is that of the table above, in points: of a training on these images and on leaves
beside them.

"""  # noqa: E501 (paragraphs)


def write_page(
    wanted: Sequence[tuple[str, str, str, str]],
    runs: Sequence[Trained],
    pictured: Sequence[Pictured],
) -> str:
    """Return the page; `wanted` are model, recipe, bits and ends of all rows, in order."""
    by_row: dict[tuple[str, str, str, str], list[Trained]] = {}
    for run in runs:
        by_row.setdefault((run.model, run.recipe, run.bits, run.ends), []).append(run)
    parts = [HEAD]
    for model in dict.fromkeys(row[0] for row in wanted):
        own = [run for run in runs if run.model == model]
        teacher = f", float {own[0].teacher:.2f} %" if own else ""
        parts += [f"\n## {model}{teacher}\n\n", line(COLUMNS), line(["---"] * len(COLUMNS))]
        parts += [line(_cells(row, by_row.get(row, []))) for row in wanted if row[0] == model]
    if pictured:
        parts += [
            IMAGES,
            _picture_table(pictured, runs),
            _tell_missing(wanted, pictured),
        ]
    machines = sorted({run.machine for run in runs})
    if machines:
        parts += ["\n## Machines\n\n", *(f"- {machine}\n" for machine in machines)]
    return "".join(parts)


def _cells(row: tuple[str, str, str, str], runs: Sequence[Trained]) -> list[str]:
    own = {run.seed: run for run in runs if run.images == OWN}
    leaves = {run.seed: run for run in runs if run.images == LEAVES}
    head = [row[1], row[2].upper(), row[3]]
    if not own:
        return [*head, DASH, NOT_MEASURED, *[DASH] * (len(COLUMNS) - len(head) - 2)]
    gains = [run.untrained - run.drop for run in own.values() if run.untrained is not None]
    added = [leaves[seed].drop - run.drop for seed, run in own.items() if seed in leaves]
    kept = sum(run.kept for run in own.values())
    return [
        *head,
        str(len(own)),
        figure((run.untrained for run in own.values()), ".2f"),
        _spread([run.drop for run in own.values()]),
        _spread(gains),
        f"{kept} of {len(own)}",
        _spread([run.drop for run in leaves.values()]),
        _spread(added),
        figure((run.seconds for run in own.values()), ".0f"),
    ]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return NOT_MEASURED
    middle = f"{statistics.fmean(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} .. {max(values):.2f})"


def _tell_missing(wanted: Sequence[tuple[str, str, str, str]], pictured: Sequence[Pictured]) -> str:
    """Return which recipes no images were drawn from."""
    known = {each.recipe for each in pictured}
    missing = [name for name in dict.fromkeys(row[1] for row in wanted) if name not in known]
    return f"\nNot measured: {', '.join(missing)}.\n" if missing else ""


def _picture_table(pictured: Sequence[Pictured], runs: Sequence[Trained]) -> str:
    columns = (
        "recipe", "images", "divergence", "confidence", "feature rank", "spread in a class",
        "gain W4A4", "gain W3A3", "",
    )  # fmt: skip
    parts = [line(columns), line(["---"] * len(columns))]
    for each in pictured:
        picture = f"![{each.recipe}]({each.picture})" if each.picture else ""
        parts.append(
            line(
                [
                    each.recipe,
                    str(each.count),
                    f"{each.divergence:.4f}",
                    f"{each.confidence:.2f}",
                    f"{each.rank:.1f}",
                    f"{each.spread:.3f}",
                    *(_gain(each.recipe, bits, runs) for bits in ("w4a4", "w3a3")),
                    picture,
                ]
            )
        )
    return "".join(parts)


def _gain(recipe: str, bits: str, runs: Sequence[Trained]) -> str:
    """Return what training gained with the recipe's images, all layers alike."""
    return _spread(
        [
            run.untrained - run.drop
            for run in runs
            if (run.recipe, run.bits, run.ends, run.images) == (recipe, bits, AS_THE_REST, OWN)
            and run.untrained is not None
        ]
    )


def group(records: Sequence[Trained]) -> Mapping[tuple[str, str, str, str, int, str], Trained]:
    """Return the records by key; of two the last."""
    return {record.key: record for record in records}
