"""`dfqonnx doctor`: whether this machine is ready for a run, and what would make it so."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from dfqonnx.errors import HOW_TO_QUANTIZE, QUANTIZING_PACKAGES, EnvironmentProblem
from dfqonnx.runtime.adapters.runtimes import ONNXRUNTIME, RUNTIMES, find_runtime
from dfqonnx.runtime.session import installed_runtimes, providers, require_runtime
from dfqonnx.version import __version__

PACKAGES = ("onnx", "onnx-ir", "numpy")
ABSENT = "not installed: needed to quantize, to make images and to inspect"
INTEGER_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    value: str
    ok: bool = True  # False when nothing can work with it
    advice: str = ""  # empty when there is nothing to do

    @property
    def quantizes(self) -> bool:
        """Whether a run can work with it; measuring can wherever it is ok."""
        return self.ok and not (self.name in QUANTIZING_PACKAGES and self.value == ABSENT)


def examine(*, quick: bool = False) -> tuple[Finding, ...]:
    """Run every check, or only those without which nothing works; a failed check raises nothing."""
    return tuple(_find_essentials() if quick else _findings())


def _find_essentials() -> Iterator[Finding]:
    """Yield whether packages are there and ONNX Runtime loads: what a container's health is."""
    yield Finding("dfqonnx", __version__)
    for name in (*QUANTIZING_PACKAGES, *PACKAGES):
        yield _package(name)
    yield _runtime()
    yield _usage_records()
    yield from _providers()


def _findings() -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding("Python", platform.python_version(), ok, "" if ok else "use Python 3.11 or later")
    yield Finding("dfqonnx", __version__)
    for name in (*QUANTIZING_PACKAGES, *PACKAGES):
        yield _package(name)
    yield _runtime()
    yield _usage_records()
    yield from _providers()
    yield from _target_runtimes()
    if importlib.util.find_spec("torch") is not None:
        yield _cuda()
    yield _processor()
    memory = psutil.virtual_memory()
    yield Finding(
        "memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    )
    yield Finding("disk here", f"{psutil.disk_usage(os.curdir).free / 2**30:.1f} GiB free")


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        if name in QUANTIZING_PACKAGES:
            return Finding(name, ABSENT, advice=HOW_TO_QUANTIZE)
        return Finding(name, "missing", False, "install dfqonnx again")


def _runtime() -> Finding:
    found = installed_runtimes()
    value = ", ".join(f"{name} {number}" for name, number in found.items()) or "missing"
    try:
        require_runtime()
    except EnvironmentProblem as problem:
        return Finding("ONNX Runtime", value, False, problem.message)
    return Finding("ONNX Runtime", value)


def _usage_records() -> Finding:
    """Tell whether ONNX Runtime keeps records of its use; `dfqonnx/__init__.py` says it not to."""
    off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    value = "off (ORT_DISABLE_TELEMETRY=1)" if off else "on"
    return Finding("usage records", value, off, "" if off else "set ORT_DISABLE_TELEMETRY=1")


def _providers() -> Iterator[Finding]:
    """Ask the runtime itself, because an installed package may still fail to load."""
    if not installed_runtimes():
        return
    try:
        names = providers()
    except (ImportError, OSError) as error:
        yield Finding("providers", str(error), False, "reinstall ONNX Runtime")
        return
    yield Finding("providers", ", ".join(names))


def _target_runtimes() -> Iterator[Finding]:
    """Tell which runtimes of targets are at hand; without one, a target is known by its rules."""
    for adapter in map(RUNTIMES.__getitem__, RUNTIMES):
        if not adapter.targets or adapter is ONNXRUNTIME:
            continue
        place, what = find_runtime(adapter), f"target {', '.join(sorted(adapter.targets))}"
        if place is None:
            yield Finding(what, f"rules only: {adapter.title} is not at hand: {adapter.advice}")
        else:
            yield Finding(what, f"proved in {adapter.title} {place.version}")


def has_nvidia_driver() -> bool:
    """Return whether a driver of NVIDIA is there; without one PyTorch need not be asked."""
    places = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
    return any(place.exists() for place in places) or shutil.which("nvidia-smi") is not None


def _cuda() -> Finding:
    if not has_nvidia_driver():
        return Finding("CUDA in torch", "not available (no NVIDIA driver); runs use the CPU")
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding("CUDA in torch", str(error), False, "reinstall torch")
    if not torch.cuda.is_available():
        return Finding("CUDA in torch", "not available; runs use the CPU")
    return Finding("CUDA in torch", f"{torch.version.cuda}, {torch.cuda.get_device_name()}")


def _processor() -> Finding:
    threads = f"{psutil.cpu_count(logical=False)} cores, {os.cpu_count()} threads"
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return Finding("processor", f"{platform.machine()}, {threads}")
    words = set(info.read_text(encoding="utf-8", errors="replace").split())
    flags = [flag for flag in INTEGER_FLAGS if flag in words]
    advice = ""
    if platform.machine() == "x86_64" and not {"avx512_vnni", "avx_vnni"} & words:
        advice = (
            "this processor has no VNNI instructions: ONNX Runtime adds products of 8-bit codes in"
            " 16 bits, which may overflow; a run here leaves layers of 8-bit weights in float where"
            " they do, and its file is slower; take --bits w7a8 for files that run here"
        )
    return Finding(
        "processor", f"{platform.machine()}, {threads}, {' '.join(flags)}", advice=advice
    )
