"""Pages, the notebook and the package's own page: links lead somewhere, commands exist, it runs."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from dfqonnx.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "llms.txt", "docs/**/*.md", "skills/**/*.md", "pipelines/results/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
SITE_ONLY = {"results": "pipelines/results", "project": "."}  # docs/site_pages.py puts them there


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def find(page: Path, link: str) -> Path | None:
    """The file that a link of a page leads to, in the repository or on the site."""
    first, _, rest = link.removeprefix("../").partition("/")
    places = [page.parent / link]
    if first in SITE_ONLY and page.is_relative_to(ROOT / "docs"):
        places.append(ROOT / SITE_ONLY[first] / rest)
    return next((place for place in places if place.exists()), None)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", head.lower()).strip() for head in heads)
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    for link, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = find(page, link) if link else page
        assert there is not None, link
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{link}#{anchor}"


def test_a_number_means_one_decision() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\*\*(\d+)\.", text, re.MULTILINE)
    assert len(numbers) > 50
    assert sorted(set(numbers)) == sorted(numbers)


def commands(page: Path) -> Iterator[list[str]]:
    """Every command line of dfqonnx that a page shows, in blocks and in the run of text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for shown in re.findall(r"^ +(?:\.venv/bin/)?dfqonnx (\S.*)$|`dfqonnx ([^`]+)`", text, re.M):
        try:
            yield shlex.split("".join(shown), comments=True)
        except ValueError:  # a line of what a command prints
            continue


@pytest.mark.parametrize("page", [p for p in PAGES if "pipelines" not in p.parts], ids=named)
def test_every_command_and_option_that_a_page_shows_is_known(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in commands(page):
        if name.startswith("-") or not re.fullmatch(r"[a-z]+", name):
            continue
        assert name in known, name
        options = {flag for option in known[name].params for flag in option.opts}
        options |= {flag for option in known[name].params for flag in option.secondary_opts}
        used = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
        assert used <= options | {"--help"}, used - options


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "GITHUB_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    return module


def test_the_page_of_the_package_has_no_link_that_leads_nowhere(
    metadata: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata.repository() is None
    assert not LINK.findall(metadata.absolute_links(readme, None))
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/dfqonnx")
    monkeypatch.setenv("GITHUB_REF_NAME", "v0.2.0")
    home = metadata.repository()
    assert home == "https://github.com/someone/dfqonnx"
    text = metadata.absolute_links(readme, home)
    assert not LINK.findall(text)
    assert f"({home}/raw/v0.2.0/docs/images/report.png)" in text
    assert f"({home}/blob/v0.2.0/docs/quickstart.md)" in text
    assert all(link.startswith(home) for link in metadata.addresses(home).values())


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.name != "CREDITS"]
    assert (ROOT / "docs" / "images" / "report.png").stat().st_size < 200_000
    assert all(path.stat().st_size < 500_000 for path in pictures)


def run(command: list[str], folder: Path, **variables: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_notebook_runs_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("nbconvert", reason="the extra docs is not installed")
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_bytes((ROOT / "docs" / "notebook.ipynb").read_bytes())
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", str(notebook)]
    run(command, tmp_path, DFQONNX_MODEL=str(ROOT / "models" / "resnet20.onnx"))
    page = (tmp_path / "notebook.html").read_text(encoding="utf-8")
    assert "Open the whole report" in page  # the card of the result
    assert page.count("data:image/png;base64") >= 1  # the contact sheet
    assert "bits" in page.split("UsageError")[1][:200]
    assert (tmp_path / "notebook-compare.html").is_file()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    run(command, ROOT, NO_MKDOCS_2_WARNING="1")
    pages = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert {"index.html", "api.html", "faq.html"} <= pages.keys()
    for name, text in pages.items():
        assert not re.findall(r'(?:src|rel="stylesheet" href)="https?://[^"]+"', text), name
