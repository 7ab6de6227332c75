"""ONNX Runtime's own quantizer at 8 and 4 bits on a classifier, calibrated on real images.

    python pipelines/benchmarks/int4_with_data.py --model FLOAT.onnx --preprocess cifar10 \
        --eval-data TEST.npz

The first `CALIBRATION` images of the set calibrate `quantize_static` (QDQ, weights per channel,
UINT8 activations: it has no narrower ones), with MinMax and with Percentile; all others measure.
The file gets a record for each model into `pipelines/results/int4_with_data.json`, which
`summary.py` reads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dfqonnx  # noqa: F401 - first: it switches ONNX Runtime's usage records off

# isort: split
import numpy as np
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import (  # type: ignore[import-untyped]
    quant_pre_process,
)
from side_by_side import Reader
from tables.records import replace_text

from dfqonnx.config.preprocess import read_preprocess
from dfqonnx.core.input_format import InputFormat
from dfqonnx.graph.normalize import open_model
from dfqonnx.runtime.session import Session, runtime_version

CALIBRATION = 128  # two equal batches, as its histograms want them
WEIGHTS = {"W8A8": QuantType.QInt8, "W4A8": QuantType.QInt4}
METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
RESULT = Path(__file__).parents[1] / "results" / "int4_with_data.json"


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a record for each width and method: the points of top-1 that it loses."""
    with np.load(args.eval_data) as content:
        pixels, labels = content["x"], content["y"]
    inputs, known = read_preprocess(args.preprocess), open_model(args.model)
    form = InputFormat(inputs.fitted(known.input_shape), known.input_shape)
    tested, truth = form.to_tensor(pixels[CALIBRATION:]), labels[CALIBRATION:]

    def accuracy(path: Path) -> float:
        (scores,) = Session(path).run_batched({known.input: tested}).values()
        return 100 * float((scores.argmax(1) == truth).mean())

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(args.model), str(ready))
        teacher = accuracy(args.model)
        for bits, weights in WEIGHTS.items():
            for name, method in METHODS.items():
                out = Path(folder) / f"{bits}-{name}.onnx"
                quantize_static(
                    str(ready), str(out), Reader(args.model, pixels[:CALIBRATION], inputs),
                    quant_format=QuantFormat.QDQ, per_channel=True, weight_type=weights,
                    activation_type=QuantType.QUInt8, calibrate_method=method,
                )  # fmt: skip
                yield {
                    "model": args.model.stem, "bits": bits, "method": name,
                    "calibrated": CALIBRATION, "tested": len(truth), "teacher_top1": teacher,
                    "drop": teacher - accuracy(out), "onnxruntime": runtime_version(),
                    "size": out.stat().st_size / args.model.stat().st_size,
                }  # fmt: skip


def main() -> None:
    """Measure one model, and put its records in the place of its earlier ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--preprocess", required=True)
    parser.add_argument("--eval-data", type=Path, required=True)
    args = parser.parse_args()
    old = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    kept = [record for record in old if record["model"] != args.model.stem]
    records = sorted([*kept, *measure(args)], key=lambda r: (r["model"], -ord(r["bits"][1])))
    replace_text(RESULT, json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
