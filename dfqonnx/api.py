"""One call for the whole job, with the power of the command line."""

from __future__ import annotations

from pathlib import Path

from dfqonnx import flow
from dfqonnx.progress import Progress
from dfqonnx.report.result import Result
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.quant import Bits, Storage
from dfqonnx.spec.request import Gates, run_request
from dfqonnx.spec.run import Device, Recipe, Target


def quantize(
    model: str | Path,
    bits: str | int | Bits = "w4a4",
    *,
    preprocess: str | Path | InputSpec | None = None,
    eval_data: str | Path | None = None,
    recipe: str | Path | Recipe = "default",
    gates: Gates = (),
    strict_gates: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    budget: str | float | None = None,
    strict_ends: int | None = None,
    weight_storage: Storage = "auto",
    device: Device = "auto",
    target: Target = "ort-cpu",
    progress: Progress | None = None,
) -> Result:
    """Quantize an ONNX model without data and prove the result.

        result = dfqonnx.quantize("resnet20.onnx", "w4a4", gates=["agreement>=0.9", "size<=0.2x"])
        result.verdict, result.student, result.report.latency

    A gate that does not hold raises nothing: look at `passed`. Everything is written either way.

    Args:
        model: the float ONNX file.
        bits: one width for weights and activations (4, "4"), both ("w4a8"), or `Bits`.
        preprocess: how pixels become the input: a preset, a YAML file or a specification; None
            takes what the file says of itself, else guesses and warns.
        eval_data: labelled images to measure on (npz, folder or tar); never trained on.
        recipe: a shipped recipe, a YAML file, or `Recipe`.
        gates: rules for the result, such as "drop<=1.0".
        strict_gates: whether a rule that cannot be decided stands against `passed` as well.
        out: output folder, complete or absent at the end; None takes `<model>-<bits>` in the
            current folder.
        seed: of every random choice.
        budget: time for images and training together: seconds, or "10m".
        strict_ends: weight bits of the first and last layer; None leaves them like the others.
        weight_storage: "auto" packs weights of 4 bits and fewer as INT4, "int8" does not.
        device: where images and training run; "auto" takes CUDA where present.
        target: runtime that the file is for.
        progress: told of every stage; None is silent.

    Returns:
        the report and the paths of what was written.

    Raises:
        UsageError: an argument, a path or evaluation data that does not fit.
        UnsupportedModel: the model cannot be quantized; every offending node is named.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    spec = run_request(
        model,
        bits,
        preprocess=preprocess,
        eval_data=eval_data,
        recipe=recipe,
        gates=gates,
        strict_gates=strict_gates,
        out=out,
        seed=seed,
        budget=budget,
        strict_ends=strict_ends,
        weight_storage=weight_storage,
        device=device,
        target=target,
    )
    return Result(spec.out, flow.run(spec, progress=progress))
