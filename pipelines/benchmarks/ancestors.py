"""What every training recipe gains, and what its own images add over dead leaves alone.

    ancestors.py run --models FOLDER --data FOLDER --out RUNS [--lane 0/2] [--seeds 0] [--recipes R ...]
    ancestors.py images --models FOLDER [--count 512]
    ancestors.py page

`run` does what no record is there for, seeds outermost, and adds a line to
`pipelines/results/ancestors.jsonl` as soon as a run is over; `images` draws from each recipe without
what is painted beside, adds what the network makes of them to `ancestors_images.jsonl`, and writes a
contact sheet, which `pictures.py` lays out in docs/sources.md. `page` writes `pipelines/results/ANCESTORS.md` from both, rows that were not measured included. With
`--lane 0/2` only the first, third, ... of the runs are done: one lane a core. Ends with 1 if a run
failed. The tables need an idle machine: about 10 minutes a run on two cores, 240 runs.
"""  # noqa: E501 (a command line)

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import lane
from numpy.typing import NDArray
from pictures import COLUMNS, ROWS, save_sheet
from tables.ancestors_page import (
    AS_THE_REST,
    LEAVES,
    OWN,
    Pictured,
    Trained,
    read_pictured,
    write_page,
)
from tables.records import read_lines, replace_text
from tables.runs import read

from dfqonnx.config.recipe import Recipe, read_recipe, shipped_recipes, write_recipe
from dfqonnx.config.synthesis import PixelOptimizationConfig
from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.report.html.images import class_sheet
from dfqonnx.synthesis.divergence import measure_divergence
from dfqonnx.synthesis.sources.generator import find_classifier_input
from dfqonnx.synthesis.synthesize import synthesize
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

RESULTS = Path(__file__).parents[1] / "results"
RECORDS, IMAGES, PAGE = (
    RESULTS / name for name in ("ancestors.jsonl", "ancestors_images.jsonl", "ANCESTORS.md")
)
SHEETS = Path(__file__).parents[2] / "docs" / "images"
MODEL, PREPROCESS, DATA = "cifar10_resnet20_bn", "imagenet", "cifar10_test.npz"
SEEDS = (0, 1, 2)
FOUR, THREE = "w4a4", "w3a3"
PAPERS_ENDS = {"dfqf": "8"}  # bits of first and last layer where the paper's claim has them
TWO = "w2a4"  # of The Knowledge Within, with four-bit ends


@dataclass(frozen=True)
class Line:
    """One run."""

    recipe: str
    bits: str
    ends: str
    seed: int
    images: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.recipe}.{self.bits}.{self.ends.replace(' ', '-')}.{self.images}.s{self.seed}"


def training_recipes() -> list[str]:
    """Return the shipped recipes of a paper that train, and the default for comparison."""
    shipped = shipped_recipes().items()
    return ["default", *(n for n, r in shipped if r.paper and r.distillation.steps != 0)]


def rows(recipes: list[str]) -> list[tuple[str, str, str, str]]:
    """Return model, recipe, bits and ends of all rows of the page."""
    found = []
    for name in recipes:
        found += [(MODEL, name, bits, AS_THE_REST) for bits in (FOUR, THREE)]
        if name in PAPERS_ENDS:
            found += [(MODEL, name, bits, PAPERS_ENDS[name]) for bits in (FOUR, THREE)]
        if name.startswith("knowledge-within"):
            found.append((MODEL, name, TWO, "4"))
    return found


def lines(recipes: list[str], seeds: list[int]) -> list[Line]:
    """Return all runs, seeds outermost."""
    return [
        Line(recipe, bits, ends, seed, images)
        for seed in seeds
        for images in (OWN, LEAVES)
        for _, recipe, bits, ends in rows(recipes)
    ]


def with_leaves(recipe: Recipe) -> Recipe:
    """Return the recipe with as many dead leaves in place of its images; the rest stays."""
    synthesis = dataclasses.replace(
        recipe.synthesis,
        source="dead-leaves",
        painted_fraction=0.0,
        pixels=PixelOptimizationConfig(),
    )
    return dataclasses.replace(recipe, name=f"{recipe.name}-leaves", needs=(), synthesis=synthesis)


def command(run: Line, places: argparse.Namespace) -> list[str]:
    """Return the command line of one run."""
    recipe = run.recipe
    if run.images == LEAVES:
        file = places.out / f"{recipe}-leaves.yaml"
        text = write_recipe(with_leaves(read_recipe(recipe)))
        kept = {k: v for k, v in yaml.safe_load(text).items() if k != "scale"}
        file.write_text(yaml.safe_dump(kept), encoding="utf-8")
        recipe = str(file)
    words = [
        sys.executable, "-m", "dfqonnx", "run", "--model", str(places.models / f"{MODEL}.onnx"),
        "--bits", run.bits, "--seed", str(run.seed), "--recipe", recipe,
        "--preprocess", PREPROCESS, "--eval-data", str(places.data / DATA),
        "--out", str(places.out / run.name), "--quiet", "--json",
    ]  # fmt: skip
    return words + ([] if run.ends == AS_THE_REST else ["--strict-ends", run.ends])


def do(run: Line, places: argparse.Namespace) -> Trained:
    """Do a run, unless its folder is there, and return its record.

    Raises:
        SystemExit: it failed.
    """
    folder = places.out / run.name
    if not folder.exists():
        done = subprocess.run(
            command(run, places), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"exit {done.returncode}: {done.stderr.strip()}")
    found = read(folder / "report.json")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if found.drop is None or found.teacher_top1 is None:
        raise SystemExit("its report has no drop")
    return Trained(
        model=MODEL,
        recipe=run.recipe,
        bits=run.bits,
        ends=run.ends,
        seed=run.seed,
        images=run.images,
        teacher=found.teacher_top1,
        untrained=found.untrained,
        drop=found.drop,
        kept=bool((report.get("training") or {}).get("kept")),
        seconds=found.seconds or 0.0,
        machine=found.machine,
    )


def measure_all(places: argparse.Namespace) -> int:
    """Do what no record is there for; return how many runs failed."""
    places.out.mkdir(parents=True, exist_ok=True)
    todo = lines(places.recipes or training_recipes(), places.seeds)[places.lane]
    failed = 0
    for index, run in enumerate(todo, 1):
        known = {record.key for record in trained()}
        if (MODEL, run.recipe, run.bits, run.ends, run.seed, run.images) in known:
            continue
        try:
            record = do(run, places)
        except SystemExit as error:
            failed += 1
            print(f"{index}/{len(todo)} {run.name}: {error}", flush=True)
            continue
        with RECORDS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(record)) + "\n")
        print(f"{index}/{len(todo)} {run.name}: {record.untrained} -> {record.drop}", flush=True)
    return failed


def trained() -> list[Trained]:
    """Return the records of runs."""
    return read_lines(RECORDS, lambda line: Trained(**line), "a run")


def own_images(recipe: Recipe, count: int) -> Recipe:
    """Return the recipe with images of its own alone."""
    painted = recipe.synthesis.source in {"dead-leaves", "procedural"}
    return dataclasses.replace(
        recipe,
        synthesis=dataclasses.replace(
            recipe.synthesis,
            images=count,
            painted_fraction=0.0,
            dead_leaves_fraction=1.0 if painted else 0.0,
        ),
    )


@torch.no_grad()
def features_of(net: ProgramModule, name: str, x: torch.Tensor) -> tuple[NDArray[np.float64], ...]:
    """Return features (N, D) and probabilities (N, K)."""
    logits, taps = net(x)
    return taps[name].double().numpy(), logits.double().softmax(1).numpy()


def effective_rank(features: NDArray[np.float64]) -> float:
    """Return the exponential of the entropy of the covariance's normalized eigenvalues."""
    values = np.linalg.eigvalsh(np.cov(features.T)).clip(0)
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def spread_within(features: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Return the variance of unit features within classes, mean over images."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    off = [
        np.square(unit[classes == c] - unit[classes == c].mean(0)).sum() for c in np.unique(classes)
    ]
    return float(sum(off) / len(unit))


def picture(recipe: Recipe, model: Path, count: int, sheets: Path) -> Pictured:
    """Draw images of a recipe, write a sheet of them and return what the network makes of them."""
    network = normalize(load(model))
    teacher, context = to_program(network), RunContext()
    inputs = input_of(network)
    plan = place_quantizers(
        network,
        QuantizationConfig(BitWidths(4, 4)),
        TARGETS[DEFAULT_TARGET],
        input_signed=inputs.signed,
    )
    config = own_images(recipe, count).synthesis
    against = make_fixed_opponents(
        teacher, plan, spec=config, inputs=inputs, context=context, alone=True
    )
    made = synthesize(
        teacher,
        network.statistics,
        inputs=inputs,
        config=config,
        context=context,
        opponents=against,
    )
    return describe(recipe.name, made.pixels, network, sheets)


def input_of(network: NormalizedModel) -> InputFormat:
    """Return what the network reads."""
    return InputFormat(PRESETS[PREPROCESS].fitted(network.input_shape), network.input_shape)


def describe(
    recipe: str, pixels: NDArray[np.uint8], network: NormalizedModel, sheets: Path
) -> Pictured:
    """Return what the network makes of a recipe's images (N, H, W, C), and write a sheet."""
    teacher, inputs = to_program(network), input_of(network)
    name = find_classifier_input(teacher)
    if name is None or not network.statistics:
        raise SystemExit("a network without a plain last layer, or without BatchNormalization")
    net = ProgramModule(teacher, taps=(name,))
    parts = torch.split(torch.from_numpy(pixels), 64)
    far = measure_divergence(
        teacher,
        network.statistics,
        (inputs.to_tensor(part) for part in parts),
        context=RunContext(),
        inputs=inputs,
    )
    found = [features_of(net, name, inputs.to_tensor(part)) for part in parts]
    features, p = (np.concatenate(each) for each in zip(*found, strict=True))
    sheet = class_sheet(pixels, p.argmax(1), rows=ROWS, columns=COLUMNS, sheet_pixels=360)
    save_sheet(sheet, sheets / f"source-{recipe}.png")
    return Pictured(
        recipe=recipe,
        count=len(pixels),
        divergence=far.divergence,
        confidence=float(p.max(1).mean()),
        rank=effective_rank(features),
        spread=spread_within(features, p.argmax(1)),
        picture="",
    )


def picture_all(places: argparse.Namespace) -> Iterator[Pictured]:
    """Yield what no record is there for, and add it to the file."""
    known = {each.recipe for each in pictured()}
    for name in places.recipes or [*training_recipes(), "dfq", "zeroq"]:
        if name in known:
            continue
        model = places.models / f"{MODEL}.onnx"
        found = picture(read_recipe(name), model, places.count, SHEETS)
        with IMAGES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(found)) + "\n")
        yield found


def pictured() -> list[Pictured]:
    """Return the records of images."""
    return read_pictured(IMAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["run", "images", "page"])
    for name in ("models", "data", "out"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--lane", type=lane, default="0/1", help="which share of the runs, as 0/2")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--recipes", nargs="+", help="names; all by default")
    parser.add_argument("--count", type=int, default=512, help="images of a recipe")
    places = parser.parse_args()
    torch.set_num_threads(1)
    needed = {"run": ("models", "data", "out"), "images": ("models",), "page": ()}[places.what]
    if missing := [name for name in needed if getattr(places, name) is None]:
        parser.error(f"{places.what} needs --{missing[0]}")
    if places.what == "run":
        raise SystemExit(1 if measure_all(places) else 0)
    if places.what == "images":
        for found in picture_all(places):
            print(f"{found.recipe}: {found.divergence:.4f}, rank {found.rank:.1f}", flush=True)
        return
    shown = [
        dataclasses.replace(each, picture=f"../../docs/images/source-{each.recipe}.png")
        for each in pictured()
    ]
    replace_text(PAGE, write_page(rows(training_recipes()), trained(), shown))


if __name__ == "__main__":
    main()
