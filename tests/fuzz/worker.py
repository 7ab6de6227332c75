"""Feeds broken files to the command line, one forked process each, and reports what went wrong.

    python -m tests.fuzz.worker FOLDER FIRST LAST       prints one JSON line a file

In each process: no file outside the model's folder, Python's own and the temporary ones may be
opened (audit hook), memory may grow by 2 GiB at most (address space), and 30 seconds of computing
may pass (or five minutes of waiting, which a busy machine needs). The
forks share the imports, which take longer than a file does; a crash of a library written in C++
ends the fork alone and is seen by its signal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import site
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dfqonnx.cli.app import command_line
from tests.fuzz.mutate import furnish, mutant

SECONDS, WAITING = 30, 300
MORE = 4  # times as long for an honest large image, which the rehearsal runs several times
GROWTH = 2 << 30
REFUSED = {2, 3}
NO_MEMORY = 4  # right for an image of gigabytes under the limit above, and for nothing else
RUN_EVERY = 4  # of the files that pass inspection
TINY = """about: two steps
synthesis: {source: dead-leaves, images: 24}
distillation: {steps: 2, batch_size: 8, holdout_images: 8}
"""


def main(folder: Path, first: int, last: int) -> None:
    """Try every seed of the range."""
    warm_up(folder)
    inner = furnish(folder)
    for seed in range(first, last):
        path, done = mutant(seed, inner)
        small = "huge" not in done and "another_input" not in done
        seconds = SECONDS if small else MORE * SECONDS
        found = forked(path, run=small and seed % RUN_EVERY == 0, seconds=seconds)
        print(json.dumps({"seed": seed, "done": done, **found}), flush=True)  # noqa: T201


def warm_up(folder: Path) -> None:
    """Import everything once, before forking."""
    import torch

    import dfqonnx.workflows.run  # noqa: F401
    from tests.fuzz.bases import bases

    torch.set_num_threads(1)
    (folder / "tiny.yaml").write_text(TINY)
    path = folder / "warm.onnx"
    path.write_bytes(bases()[0])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command_line(_run(path, folder / "warm"))


def _run(path: Path, out: Path, *more: str) -> list[str]:
    recipe = next(
        p for p in (path.parent / "tiny.yaml", path.parents[1] / "tiny.yaml") if p.exists()
    )
    return [
        *("run", "--model", str(path), "--recipe", str(recipe), "--quiet"),
        *("--out", str(out), *more),
    ]


def forked(path: Path, *, run: bool, seconds: int = SECONDS) -> dict[str, Any]:
    """Inspect, plan and perhaps run a file in a process of its own."""
    reading, writing = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if not child:
        os.close(reading)
        found: dict[str, Any] = {}
        try:
            found = examine(path, run=run, seconds=seconds)
        except BaseException as error:  # noqa: BLE001  it is what the test looks for
            found = {"fault": f"escaped: {type(error).__name__}: {error}"[:500]}
        finally:
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    found = json.loads(said) if said else {}
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hang = number in {signal.SIGALRM, signal.SIGXCPU}
        found["fault"] = f"hang over {seconds} s" if hang else f"died of signal {number}"
    found["seconds"] = round(time.perf_counter() - began, 2)
    found["peak_mb"] = usage.ru_maxrss // 1024
    return found


def examine(path: Path, *, run: bool, seconds: int) -> dict[str, Any]:
    """Inspect, plan and run; the codes must agree."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WAITING)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GROWTH, used + GROWTH))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    opened: list[str] = []
    _guard(path.parent, opened)
    found: dict[str, Any] = {}
    inspected = call(found, "inspect", ["inspect", "--model", str(path)])
    large = (NO_MEMORY,) if seconds > SECONDS else ()
    planned = call(found, "plan", _run(path, path.parents[1] / "out", "--dry-run"), also=large)
    if inspected == 0 and planned == 0 and run:
        with tempfile.TemporaryDirectory() as out:
            call(found, "run", _run(path, Path(out) / "out"), also=(1,))
    if opened:
        found["fault"] = f"opened {opened[:4]}"
    if "fault" not in found and planned not in {inspected, *large}:
        found["fault"] = f"inspect ends with {found['inspect']}, the plan with {found['plan']}"
    return found


def call(found: dict[str, Any], name: str, words: list[str], *, also: tuple[int, ...] = ()) -> int:
    """Run a command; note its exit code, and as a fault whatever is not a plain refusal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line(words)
    found[name] = code
    message = err.getvalue().strip()
    if "Traceback" in message or code not in {0, *REFUSED, *also}:
        found["fault"] = f"{name} ends with {code}: {message[:500]}"
        with contextlib.suppress(IndexError, OSError):
            saved = Path(message.split("The traceback is in ")[1].split(";")[0])
            found["trace"] = saved.read_text()[-1500:]
            saved.unlink()
    elif code and not message:
        found["fault"] = f"{name} ends with {code} and says nothing"
    return code


def _guard(folder: Path, opened: list[str]) -> None:
    """Note every file opened that is neither the model's, nor Python's, nor temporary."""
    package = Path(__file__).parents[2]
    allowed = [
        folder,
        package,
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path("/sys"),
        Path("/proc"),
    ]
    allowed += [*map(Path, site.getsitepackages()), Path(tempfile.gettempdir()), Path("/usr")]
    allowed = [p.resolve() for p in allowed]
    secret = (folder.parent / "outside").resolve()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = Path(os.path.realpath(os.fsdecode(arguments[0])))
        home = any(path.is_relative_to(place) for place in allowed)
        if path.is_relative_to(secret) or not home or "environ" in path.name:
            opened.append(str(path))

    sys.addaudithook(hook)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
