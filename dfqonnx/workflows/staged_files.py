"""Runs and validations whose files are behind URLs: fetched before, published after.

    URL -> a hidden folder of this machine -> the command as always -> URL, complete or not at all

Reports name the URLs, not the copies. Where publishing fails after the work is done, the result
stays on this machine, and the message says where.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from dfqonnx.config.commands import RunConfig, ValidateConfig
from dfqonnx.core.location import (
    as_location,
    describe_location,
    is_remote,
    is_url,
    join_location,
    last_name,
    parent_location,
)
from dfqonnx.core.replace_folder import MARKER
from dfqonnx.core.staging import staging_folder
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.graph.load import list_external_names
from dfqonnx.report.files import relabel_report, rename_texts
from dfqonnx.report.report import Report
from dfqonnx.storage.object_store import open_store
from dfqonnx.storage.transfer import check_publishable, fetch, publish

Config = TypeVar("Config", RunConfig, ValidateConfig)
READ = ("model", "teacher", "student", "eval_data", "images", "calibrate_with")
MODELS = ("model", "teacher", "student")


@dataclass
class StagedFiles:
    """Where local copies stand, and which URL each is of.

    Attributes:
        names: path of a copy, or of a folder that is to be published -> its URL as shown.
        outputs: folders whose content is published, and the URLs of these.
    """

    home: Path
    names: dict[str, str] = field(default_factory=dict)
    outputs: dict[Path, str] = field(default_factory=dict)

    def name(self, text: str) -> str:
        """Return a text with URLs in the place of the copies."""
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        return text

    def name_report(self, report: Report) -> Report:
        """Return a report with URLs in the place of the copies."""
        return rename_texts(report, self.name) if self.names else report


@contextmanager
def stage(config: Config, *, publishes: bool = True) -> Iterator[tuple[Config, StagedFiles]]:
    """Yield the configuration with local paths for URLs; on a clean exit, publish what was made.

    Without `publishes`, as in a dry run, nothing is asked of the place that is written to.

    Raises:
        UsageError: nothing is behind a URL, or something of somebody else is.
        EnvironmentProblem: a store, a package or a permission is missing.
    """
    config = _plain_paths(config)
    if not any(is_remote(path) for _, path in _list_paths(config)):
        yield config, StagedFiles(Path())
        return
    with staging_folder(Path(tempfile.gettempdir())) as home:
        staged = StagedFiles(home)
        config = _stage_output(config, staged, publishes=publishes)
        config = _stage_inputs(config, staged)
        yield config, staged
        try:
            _publish(staged)
        except EnvironmentProblem as error:
            kept = Path(tempfile.mkdtemp(prefix="dfqonnx-unpublished-"))
            for base in staged.outputs:
                shutil.copytree(base, kept, dirs_exist_ok=True)
            raise EnvironmentProblem(f"{error.message}; the result is kept in {kept}/") from None


def _list_paths(config: RunConfig | ValidateConfig) -> Iterator[tuple[str, Path]]:
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, Path):
            yield each.name, value
    if config.measuring.classes is not None:
        yield "classes", config.measuring.classes


def _with_path(config: Config, name: str, path: Path) -> Config:
    if name == "classes":
        return replace(config, measuring=replace(config.measuring, classes=path))
    changed: Any = {name: path}
    return replace(config, **changed)


def _plain_paths(config: Config) -> Config:
    """Return the configuration with paths for `file://`."""
    for name, path in list(_list_paths(config)):
        if is_url(path) and not is_remote(path):
            config = _with_path(config, name, Path(as_location(path)))
    return config


def _stage_inputs(config: Config, staged: StagedFiles) -> Config:
    done: dict[str, Path] = {}
    for place, (name, path) in enumerate(list(_list_paths(config))):
        if name not in {*READ, "classes"} or not is_remote(path):
            continue
        url = as_location(path)
        if url not in done:
            folder = staged.home / f"in{place}"
            folder.mkdir()
            more = list_external_names if name in MODELS else None
            done[url] = fetch(url, folder, more=more)
            staged.names[str(done[url])] = describe_location(url)
        config = _with_path(config, name, done[url])
    return config


def _stage_output(config: Config, staged: StagedFiles, *, publishes: bool) -> Config:
    """Give what is written a place in the hidden folder; the URL is checked at once."""
    out = config.out
    if out is None or not is_remote(out):
        return config
    url = as_location(out)
    if publishes:
        check_publishable(url)
    base = staged.home / "out"
    base.mkdir()
    staged.names[str(base)] = describe_location(parent_location(url))
    local = base / last_name(url)
    staged.outputs[base] = parent_location(url)
    config = _with_path(config, "out", local)
    if isinstance(config, RunConfig) and config.file is not None:
        config = replace(config, file=base / last_name(as_location(config.file)))
    return config


def _publish(staged: StagedFiles) -> None:
    """Publish every folder with a report, then the models that stand beside them."""
    for base, url in staged.outputs.items():
        for folder in sorted(path for path in base.iterdir() if (path / MARKER).is_file()):
            relabel_report(folder, staged.name)
            publish(folder, join_location(url, folder.name))
        for file in sorted(base.glob("*.onnx*"), reverse=True):  # the weights before their model
            if file.is_file():
                open_store(url).upload(file, file.name)
