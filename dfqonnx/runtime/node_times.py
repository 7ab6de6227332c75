"""How long each node takes in ONNX Runtime, from its own profile.

A node that others were fused into is named by the runtime after one of them, or after what the last
one makes, with additions such as `_nchwc` or `_token_12`. These are taken off, and the time goes to
the node of the user's graph that has the name or makes the value; what is left (conversions,
changes of memory order) counts as `OTHER`. Medians over the runs, because a busy machine
interrupts.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.runtime.kernel_audit import DECORATION
from dfqonnx.runtime.session import Session

OTHER = ""  # the name under which nodes count that are none of the graph's
_WARM_UP, _RUNS = 2, 15
_SUFFIX = "_kernel_time"


def time_nodes(
    model: Path | bytes, x: NDArray[np.float32], owners: Mapping[str, str]
) -> Mapping[str, float]:
    """Return the seconds of each node for one run of `x`, a batch of one.

    `owners` are the nodes of the graph by their own names and by those of the values they make.
    """
    with tempfile.TemporaryDirectory(prefix="dfqonnx-profile-") as folder:
        session = Session(model, profile_prefix=Path(folder) / "profile")
        batch = session.batch or len(x)
        feeds = {session.inputs[0].name: np.resize(x, (batch, *x.shape[1:]))}
        typed = {name: session.typed(name, array) for name, array in feeds.items()}
        for _ in range(_WARM_UP + _RUNS):
            session.run(typed)
        events = json.loads(session.end_profiling().read_text(encoding="utf-8"))
    return {name: seconds / batch for name, seconds in _add_up(events, owners).items()}


def _add_up(events: list[dict[str, object]], owners: Mapping[str, str]) -> Mapping[str, float]:
    """Return the seconds of each node: medians over runs of each kernel, added up by owner."""
    kernels: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        duration = event.get("dur")
        if event.get("cat") == "Node" and name.endswith(_SUFFIX) and isinstance(duration, int):
            kernels[name.removesuffix(_SUFFIX)].append(1e-6 * duration)
    found: defaultdict[str, float] = defaultdict(float)
    for name, seconds in kernels.items():
        plain = DECORATION.sub("", name)
        found[owners.get(name, owners.get(plain, OTHER))] += float(np.median(seconds))
    return found
