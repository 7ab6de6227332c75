"""One file in one runtime: `python worker.py FOLDER`, in any interpreter that has the runtime.

A program of its own: it imports numpy and the runtime and nothing of dfqonnx, so that a runtime may
live in an environment of its own, and one that crashes takes nobody with it.

    FOLDER/job.json     runtime, input, dtype, shape (runs, batch, ...), seconds, turn_seconds
    FOLDER/student.onnx, teacher.onnx, inputs.bin                  all axes of the input are numbers
    FOLDER/result.json  stage, version, layers, outputs, turns ...   written after every stage
    FOLDER/executed.onnx, output-K.bin                             what was executed and computed

`layers` are what the runtime says of the nodes that it executes: [names, operator, type, place].
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Any], list[Any]]  # an input array -> all outputs, in the file's order
RESULT = "result.json"


def open_onnxruntime(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Load a file in ONNX Runtime on the CPU, and write what it makes of it."""
    runtime = importlib.import_module("onnxruntime")
    options = _options(runtime)
    if path.name == "student.onnx":
        options.optimized_model_filepath = str(path.parent / "executed.onnx")
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {job["input"]: x})


def open_qnn(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Load a file in ONNX Runtime with QNN's HTP backend, which a PC emulates."""
    runtime = importlib.import_module("onnxruntime")
    plugin = importlib.import_module("onnxruntime_qnn")
    name = plugin.get_ep_name()
    if not any(found.ep_name == name for found in runtime.get_ep_devices()):
        runtime.register_execution_provider_library(name, plugin.get_library_path())
    places = [found for found in runtime.get_ep_devices() if found.ep_name == name]
    options = _options(runtime)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices(places[:1], {"backend_path": plugin.get_qnn_htp_path()})
    session = runtime.InferenceSession(str(path), options)
    facts["layers"] = [
        [[node.name], node.op_type, "", f"{part.ep_name} {number}"]
        for number, part in enumerate(session.get_provider_graph_assignment_info())
        for node in part.get_nodes()
    ]
    return lambda x: session.run(None, {job["input"]: x})


def open_openvino(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Load a file in OpenVINO on the CPU, with the precision of every node that it executes.

    Left to itself it rounds what stays in float to bfloat16 where the processor can.
    """
    runtime = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else sums are kept in bfloat16 where the CPU has it
    }
    compiled = runtime.Core().compile_model(str(path), "CPU", settings)
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, precision, names = (
            info[key].astype(str) if key in info else ""
            for key in ("layerType", "runtimePrecision", "originalLayersNames")
        )
        layers.append([[n for n in names.split(",") if n], kind, precision, "CPU"])
    facts["layers"] = layers
    request = compiled.create_infer_request()
    count = len(compiled.outputs)

    def run(x: Any) -> list[Any]:
        request.infer({0: x}, share_inputs=True)
        return [np.array(request.get_output_tensor(k).data) for k in range(count)]

    return run


def open_tract(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Load a file in tract."""
    runtime = importlib.import_module("tract")
    facts["version"] = runtime.version()
    model = runtime.onnx().load(str(path)).into_model().into_runnable()
    return lambda x: [found.to_numpy() for found in model.run([x])]


def open_iree(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Compile a file for IREE's CPU backend."""
    tools = importlib.import_module("iree.compiler.tools")
    importer = importlib.import_module("iree.compiler.tools.import_onnx.__main__")
    runtime = importlib.import_module("iree.runtime")
    written = path.with_suffix(".mlir")
    importer.main(importer.parse_arguments([str(path), "-o", str(written), *_UPGRADE]))
    code = tools.compile_file(
        str(written), input_type="onnx", target_backends=["llvm-cpu"], extra_args=_HOST
    )
    settings = runtime.Config("local-sync")
    context = runtime.SystemContext(config=settings)
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, code))
    module = context.modules.module
    names = module.vm_module.function_names
    function = module[next(name for name in names if "$" not in name)]

    def run(x: Any) -> list[Any]:
        found = function(x)
        return [np.asarray(o) for o in (found if isinstance(found, (tuple, list)) else [found])]

    return run


_UPGRADE = ("--opset-version", "17")
_HOST = ("--iree-llvmcpu-target-cpu=host",)


def open_tvm(path: Path, job: Mapping[str, Any], facts: dict[str, Any]) -> Run:
    """Compile a file with TVM's Relax for the CPU, without tuning."""
    onnx = importlib.import_module("onnx")
    runtime = importlib.import_module("tvm")
    relax = importlib.import_module("tvm.relax")
    frontend = importlib.import_module("tvm.relax.frontend.onnx")
    module = frontend.from_onnx(onnx.load(str(path)), keep_params_in_input=False)
    module = relax.get_pipeline("zero")(module)
    machine = relax.VirtualMachine(relax.build(module, target="llvm"), runtime.cpu())

    def run(x: Any) -> list[Any]:
        found = machine["main"](runtime.runtime.tensor(x))
        outputs = [found] if hasattr(found, "numpy") else list(found)
        return [o.numpy() for o in outputs]

    return run


OPENERS: dict[str, tuple[str, Callable[[Path, Mapping[str, Any], dict[str, Any]], Run]]] = {
    "onnxruntime": ("onnxruntime", open_onnxruntime),
    "onnxruntime-qnn": ("onnxruntime-qnn", open_qnn),
    "openvino": ("openvino", open_openvino),
    "tract": ("tract", open_tract),
    "iree": ("iree-base-compiler", open_iree),
    "tvm": ("apache-tvm", open_tvm),
}


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def run_images(run: Run, x: Any, seconds: float, folder: Path) -> dict[str, Any]:
    """Run the first inputs, as many as the seconds allow, and write the outputs."""
    end, found = time.monotonic() + seconds, []
    for part in x:
        found.append(run(part))
        if time.monotonic() > end:
            break
    outputs = []
    for index, arrays in enumerate(zip(*found, strict=True)):
        parts = [np.ascontiguousarray(each) for each in arrays]
        (folder / f"output-{index}.bin").write_bytes(b"".join(part.tobytes() for part in parts))
        outputs.append({"dtype": str(parts[0].dtype), "shapes": [part.shape for part in parts]})
    return {"runs": len(found), "outputs": outputs}


def time_both(teacher: Run, student: Run, x: Any, seconds: float) -> list[list[float]]:
    """Return seconds of both, turn by turn."""
    end = time.monotonic() + seconds
    turns: list[list[float]] = []
    for run in (teacher, student):
        run(x)
    while len(turns) < 5 or time.monotonic() < end:
        turns.append([_seconds(run, x) for run in (teacher, student)])
    return turns


def _seconds(run: Run, x: Any) -> float:
    start = time.perf_counter()
    run(x)
    return time.perf_counter() - start


def work(folder: Path) -> None:
    """Do the job in `folder`; the result says how far it came."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    package, opener = OPENERS[job["runtime"]]
    result: dict[str, Any] = {"stage": "import", "version": importlib.metadata.version(package)}

    def tell(stage: str, **more: Any) -> None:
        result.update(stage=stage, **more)
        (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")

    x = np.fromfile(folder / "inputs.bin", job["dtype"]).reshape(job["shape"])
    try:
        tell("load")
        facts: dict[str, Any] = {}
        student = opener(folder / "student.onnx", job, facts)
        tell("run", **facts)
        if job["seconds"]:
            result.update(run_images(student, x, job["seconds"], folder))
        tell("time")
        if job["turn_seconds"] and (folder / "teacher.onnx").is_file():
            teacher = opener(folder / "teacher.onnx", job, {})
            tell("end", turns=time_both(teacher, student, x[0], job["turn_seconds"]))
        tell("end")
    except Exception as error:  # noqa: BLE001 - every runtime raises classes of its own
        tell(result["stage"], error=f"{type(error).__name__}: {error}"[:4000])


if __name__ == "__main__":
    work(Path(sys.argv[1]))
