"""A run of a tiny network, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.checkpoint import stages
from dfqonnx.checkpoint.cache import CacheUse
from dfqonnx.config.request import run_request
from dfqonnx.core.progress import Progress
from dfqonnx.workflows import run as flow
from tests.checkpoint.runs import PLAIN, Exported, Interrupting, Quantize
from tests.cli.networks import balanced_classifier


@pytest.fixture
def quantize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quantize:
    """Run up to the exported file, which is returned; a state is kept after every step."""
    model = balanced_classifier(tmp_path / "net.onnx")
    monkeypatch.setattr(stages, "MOST_SECONDS", 0.0)
    found: list[bytes] = []

    def stop(run: object, files: tuple[Path, Path], *_: object, **__: object) -> None:
        found.append(files[1].read_bytes())
        raise Exported

    monkeypatch.setattr(flow, "_evaluate", stop)

    def run(
        recipe: str = PLAIN,
        progress: Progress | None = None,
        *,
        bits: str = "w4a4",
        use: CacheUse | None = None,
        **more: object,
    ) -> bytes:
        (tmp_path / "recipe.yaml").write_text(recipe)
        config = run_request(
            model, bits, recipe=tmp_path / "recipe.yaml", preprocess="zero-one",
            out=tmp_path / "out", **more,
        )  # fmt: skip
        with pytest.raises(Exported):
            flow.run(config, progress=progress or Interrupting(), cache=use)
        return found.pop()

    return run
