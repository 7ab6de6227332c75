"""The engine without a package: one job after the other, in this process."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence

from dfqonnx.jobs.job import Job, JobEvent, OnEvent, Work


class OneProcess:
    """Runs jobs in order; it takes what memory and cores there are."""

    places_jobs = False

    def run(
        self, jobs: Sequence[Job], work: Work, *, on_event: OnEvent, note: Callable[[str], None]
    ) -> None:
        """Run all jobs; an interruption ends the one at work, and is raised."""
        where = f"{platform.node()}:{os.getpid()}"
        for job in jobs:

            def tell(stage: str, name: str = job.name) -> None:
                on_event(JobEvent(name=name, state="at", text=stage, where=where))

            on_event(JobEvent(name=job.name, state="started", where=where))
            result = work(job.payload, tell)
            on_event(JobEvent(name=job.name, state="ended", result=result, where=where))

    def describe(self) -> str:
        """Return in words what the jobs run on."""
        return "this process, one task after the other"
