"""A stand-in for the interpreter of another environment: it answers as a worker would.

    FAKE {"version": ..., "stage": ..., "error": ..., "layers": [...], "noise": ..., "turns": [...]}

It runs the file in this environment's ONNX Runtime and adds to every entry, or takes away, `noise`
times its deviation over the inputs.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

PROGRAM = """#!{python}
import json, os, sys
from pathlib import Path
answer = json.loads({answer!r})
if "-c" in sys.argv:
    print(answer["version"])
    sys.exit()
folder = Path(sys.argv[-1])
job = json.loads((folder / "job.json").read_text())
result = {{"stage": answer["stage"], "version": answer["version"], "layers": answer["layers"]}}
if answer["error"]:
    result["error"] = answer["error"]
if answer["stage"] == "end":
    import numpy as np
    import onnxruntime
    session = onnxruntime.InferenceSession(str(folder / "student.onnx"))
    x = np.fromfile(folder / "inputs.bin", job["dtype"]).reshape(job["shape"])
    outputs = [session.run(None, {{job["input"]: each}})[0] for each in x]
    y = np.stack(outputs)
    signs = np.random.default_rng(0).choice([-1, 1], y.shape)
    y = (y + answer["noise"] * y.std(0) * signs).astype(y.dtype)
    (folder / "output-0.bin").write_bytes(y.tobytes())
    result["outputs"] = [{{"dtype": str(y.dtype), "shapes": [each.shape for each in y]}}]
    result["turns"] = answer["turns"] if job["turn_seconds"] else []
(folder / "result.json").write_text(json.dumps(result))
if answer["stage"] == "dies":
    os.kill(os.getpid(), 11)
"""


def make_interpreter(
    folder: Path,
    *,
    version: str = "7.1",
    stage: str = "end",
    error: str = "",
    layers: list[Any] | None = None,
    noise: float = 0.0,
    turns: list[list[float]] | None = None,
) -> Path:
    answer = {
        "version": version, "stage": stage, "error": error, "layers": layers or [],
        "noise": noise, "turns": turns or [],
    }  # fmt: skip
    file = folder / "python"
    file.write_text(PROGRAM.format(python=sys.executable, answer=json.dumps(answer)))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file
