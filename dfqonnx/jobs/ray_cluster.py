"""The engine on Ray: a local one that starts by itself, or a cluster that is there.

Ray places jobs by their resources, and begins a job again whose worker or machine is gone, as often
as `retries` says; a job that was killed for memory as well. An actor without cores of its own (the
board) counts the attempts and knows the stages, for the table on the screen.

Ray's usage statistics are switched off before it is loaded, as nothing here speaks to anybody.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from dfqonnx.errors import EnvironmentProblem
from dfqonnx.jobs.job import Job, JobEvent, OnEvent, Work

NO_RAY = "ray is not installed; pip install 'dfqonnx[ray]'"
POLL_SECONDS, GRACE_SECONDS, KNOCK_SECONDS = 0.25, 5.0, 10.0
MOST_WAITING = 2000  # jobs that Ray is given at a time: a queue of 100,000 is slow
OFF = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a job without a GPU leaves the others' as they are
    "RAY_task_oom_retries": "2",
    "RAY_DEDUP_LOGS": "0",
}


def has_ray() -> bool:
    """Return whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


@dataclass(kw_only=True)
class RayCluster:
    """A local Ray with `cores` (None: all), or the cluster at `address`."""

    address: str | None = None
    cores: int | None = None
    retries: int = 2
    told: str = ""
    places_jobs: ClassVar[bool] = True

    def run(
        self, jobs: Sequence[Job], work: Work, *, on_event: OnEvent, note: Callable[[str], None]
    ) -> None:
        """Run all jobs on Ray; an interruption cancels those that are left, and is raised.

        Raises:
            EnvironmentProblem: Ray is missing, does not start, or the cluster cannot be reached.
        """
        if not has_ray():
            raise EnvironmentProblem(NO_RAY)
        try:
            with self._connected(note) as ray:
                _Round(ray, self, work, on_event).run(jobs)
        except SystemExit:
            # Ray puts one of its own (1) in the place of what a handler of SIGTERM raised in it.
            signal.raise_signal(signal.SIGTERM)
            raise

    def describe(self) -> str:
        """Return in words what the jobs run on."""
        return self.told or "Ray"

    @contextmanager
    def _connected(self, note: Callable[[str], None]) -> Iterator[Any]:
        self._check_address()
        os.environ.update({name: os.environ.get(name, value) for name, value in OFF.items()})
        import ray

        main = threading.current_thread() is threading.main_thread()
        kept = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)} if main else {}
        local: dict[str, Any] = {"num_cpus": self.cores} if self.address is None else {}
        if self.address is not None:
            local["address"] = self.address
        try:
            context = ray.init(log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise self._explain(error) from None
        for number, handler in kept.items():  # Ray puts handlers of its own in their place
            signal.signal(number, handler)
        try:
            self._tell(ray, context, note)
            yield ray
        finally:
            with _undisturbed(), suppress(Exception):
                ray.shutdown()

    def _check_address(self) -> None:
        """Knock at the address first: Ray itself tries for minutes."""
        found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+)\]?:(\d+)", self.address or "")
        if found is None:  # none, or `auto`
            return
        try:
            socket.create_connection((found[1], int(found[2])), KNOCK_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise self._explain(error) from None

    def _explain(self, error: Exception) -> EnvironmentProblem:
        reason = " ".join(str(error).split())[:300]
        if self.address is None:
            return EnvironmentProblem(f"a local Ray does not start: {reason}")
        return EnvironmentProblem(
            f"--address {self.address}: no Ray cluster answers there ({reason}); its versions of"
            " ray and Python must be those of this machine"
        )

    def _tell(self, ray: Any, context: Any, note: Callable[[str], None]) -> None:
        found = ray.cluster_resources()
        machines = sum(bool(node["Alive"]) for node in ray.nodes())
        words = [f"{found.get('CPU', 0):g} cores", f"{found.get('memory', 0) / 2**30:.1f} GiB"]
        words += [f"{found['GPU']:g} GPUs"] if found.get("GPU") else []
        kind = "a local Ray" if self.address is None else f"the Ray cluster at {self.address}"
        on = f" on {machines} machines" if machines > 1 else ""
        self.told = f"{kind} ({', '.join(words)}{on})"
        link = getattr(context, "dashboard_url", "")
        board = f"; dashboard: http://{link}" if link else ""
        note(f"The tasks run on {self.told}{board}.")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ray end in peace: one whose end is interrupted takes this process with it.

    Nothing is raised again by a timer until `run` raises the signal once more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_REAL, 0)
    numbers = (signal.SIGINT, signal.SIGTERM)
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class _Round:
    """One call of `run`: what is pending, and how events are made from what Ray tells."""

    def __init__(self, ray: Any, cluster: RayCluster, work: Work, on_event: OnEvent) -> None:
        self.ray, self.cluster, self.work, self.on_event = ray, cluster, work, on_event
        self.pending: dict[Any, Job] = {}
        self.attempts: dict[str, int] = {}
        self.where: dict[str, str] = {}
        self.over: set[str] = set()
        self.seen = 0
        self.board = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()

    def run(self, jobs: Sequence[Job]) -> None:
        waiting = [job for job in jobs if self._is_possible(job)]
        waiting.reverse()
        call = self.ray.remote(_call)
        try:
            while waiting or self.pending:
                while waiting and len(self.pending) < MOST_WAITING:
                    self._submit(call, waiting.pop())
                done, _ = self.ray.wait(list(self.pending), timeout=POLL_SECONDS)
                self._read_board()
                for each in done:
                    self._end(each, self.pending.pop(each))
        except BaseException:
            with _undisturbed():
                self._cancel()
            raise

    def _is_possible(self, job: Job) -> bool:
        """Tell of a job that no machine here could ever run; a cluster may still grow."""
        if self.cluster.address is not None:
            return True
        found = self.ray.cluster_resources()
        asked = {"CPU": job.resources.cores, "memory": job.resources.memory_bytes,
                 "GPU": job.resources.gpus}  # fmt: skip
        short = [name for name, amount in asked.items() if amount > found.get(name, 0.0)]
        if short:
            has = _describe_machine(found)
            text = f"it needs {job.resources}, and this machine has {has}"
            self.on_event(JobEvent(name=job.name, state="lost", text=text, attempt=0))
        return not short

    def _submit(self, call: Any, job: Job) -> None:
        needs = job.resources
        options: dict[str, float] = {"memory": needs.memory_bytes} if needs.memory_bytes else {}
        options |= {"num_gpus": needs.gpus} if needs.gpus else {}
        configured = call.options(
            num_cpus=needs.cores, max_retries=self.cluster.retries, name=job.name, **options
        )
        self.pending[configured.remote(self.work, job.name, job.payload, self.board)] = job

    def _read_board(self) -> None:
        try:
            told = self.ray.get(self.board.since.remote(self.seen), timeout=GRACE_SECONDS)
        except self.ray.exceptions.RayError:
            return  # a machine with the board on it is gone: it begins anew elsewhere
        self.seen += len(told)
        for name, text, where in told:
            state = "at" if text else "started"
            if not text:
                self.attempts[name] = self.attempts.get(name, 0) + 1
            self.where[name] = where
            if name in self.over:
                continue
            self.on_event(self._event(name, state, text=text))

    def _event(self, name: str, state: Any, **more: Any) -> JobEvent:
        attempt = self.attempts.get(name, 1)
        return JobEvent(
            name=name, state=state, attempt=attempt, where=self.where.get(name, ""), **more
        )

    def _end(self, reference: Any, job: Job) -> None:
        self.over.add(job.name)
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            self.on_event(self._event(job.name, "cancelled"))
        except self.ray.exceptions.RayError as error:
            first = " ".join(str(error).split())[:300]
            often = f"after {self.attempts.get(job.name, 1)} attempts"
            text = f"its worker was lost {often} ({type(error).__name__}: {first})"
            self.on_event(self._event(job.name, "lost", text=text))
        else:
            self.on_event(self._event(job.name, "ended", result=result))

    def _cancel(self) -> None:
        """Interrupt what runs, so that it removes what is incomplete, and end it after a while."""
        for reference in self.pending:
            with suppress(Exception):
                self.ray.cancel(reference, force=False)
        end = time.monotonic() + GRACE_SECONDS
        left = list(self.pending)
        while left and time.monotonic() < end:
            with suppress(Exception):
                _, left = self.ray.wait(left, timeout=POLL_SECONDS, num_returns=1)
        for reference in left:
            with suppress(Exception):
                self.ray.cancel(reference, force=True)


def _describe_machine(found: Any) -> str:
    """Return what a machine has, in words."""
    return f"{found.get('CPU', 0):g} cores, {found.get('memory', 0) / 2**30:.1f} GiB"


class _Board:
    """An actor: what the jobs told, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def tell(self, name: str, text: str, where: str) -> None:
        """Note that a job began (no text) or came to a stage."""
        self.lines.append((name, text, where))

    def since(self, count: int) -> list[tuple[str, str, str]]:
        """Return what was told after the first `count` lines."""
        return self.lines[count:]


def _call(work: Work, name: str, payload: Any, board: Any) -> Any:
    """Run a job in a worker of Ray."""
    where = f"{platform.node()}:{os.getpid()}"
    board.tell.remote(name, "", where)
    return work(payload, lambda stage: board.tell.remote(name, stage, where))
