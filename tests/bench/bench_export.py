"""What export must show on ResNet-20: size, speed, flips, and the seconds that it takes.

    python -m tests.bench.bench_export [MODEL.onnx ...]

Scales are rough (min-max of a few random images): speed and size do not depend on them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.evaluation.parity import measure_parity
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.kernel_audit import audit_kernels
from dfqonnx.runtime.latency import measure_latency
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.export.rough import rough_params

ROOT = Path(__file__).parents[2]
BITS = (BitWidths(4, 4), BitWidths(8, 8))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def bench(source: Path, bits: BitWidths, folder: Path) -> None:
    path = folder / f"{source.stem}.{bits.label}.onnx"
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    model = normalize(load(source))
    sites = place_quantizers(model, QuantizationConfig(bits), ONNXRUNTIME_CPU, input_signed=True)
    planned = time.perf_counter() - began
    x = rng.normal(size=(64, *model.input_shape)).astype(np.float32)
    params = rough_params(model, sites, x)
    began = time.perf_counter()
    size = write(export(model, sites, params), path)
    exported = time.perf_counter() - began
    found, parity = audit_kernels(path), measure_parity(path, x)
    assert parity is not None
    say(f"{source.name} {bits.label}")
    say(f"  load + sites + export      {planned + exported:.3f} s   (at most 1)")
    share = size / source.stat().st_size
    say(f"  file / float file          {share:.4f}    (at most 0.20 at 4 bits)")
    say(f"  weighted nodes in float    {len(found.float_weighted)}         (0)")
    levels = parity.on_vs_off
    flips = f"{levels.fraction:.1e}, largest {levels.largest}"
    say(f"  flips, all against off     {flips} (at most 1e-4, 1)")
    speeds = [measure_latency(source, path, x[:1], seconds=2) for _ in range(3)]
    text = ", ".join(f"{s.speedup:.2f} [{s.low:.2f} {s.high:.2f}]" for s in speeds)
    say(f"  speed over float, batch 1  {text} (at least 1.8 at 4 bits)")


def main() -> None:
    shared = ROOT.parent / "shared" / "models" / "cifar10_resnet20_bn.onnx"
    default = [p for p in (ROOT / "models" / "resnet20.onnx", shared) if p.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        for source in [Path(a) for a in sys.argv[1:]] or default:
            for bits in BITS:
                bench(source, bits, Path(folder))


if __name__ == "__main__":
    main()
