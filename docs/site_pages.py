"""A hook of mkdocs: pages that lie elsewhere in the repository, and links between both.

In the repository `docs/x.md` links to `../pipelines/results/RESULTS.md`, which is right where files
are read as they lie; on the site that page is `results/RESULTS.md`. Links to what the site does not
have (code, models) become their own text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PLACES = {  # in the repository -> on the site
    **{f"pipelines/results/{name}.md": f"results/{name}.md"
       for name in ("README", "RESULTS", "WITH_DATA", "BEFOREHAND", "TRIALS")},
    **{f"pipelines/results/{name}.md": f"results/{name}.md"
       for name in ("ANCESTORS", "AUTHORS", "TERMS")},
    "pipelines/results/COST_MODEL.md": "results/COST_MODEL.md",
    **{f"{name}.md": f"project/{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")},
}  # fmt: skip
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for source, page in PLACES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where their target is on the site."""
    here = page.file.src_uri
    sources = {site: source for source, site in PLACES.items()}
    home = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def replace(found: re.Match[str]) -> str:
        picture, words, path, anchor = found.groups()
        if files.get_file_from_path(
            posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        ):
            return found[0]
        target = posixpath.normpath(posixpath.join(home, path))
        site = PLACES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(site) is None:
            return words
        relative = posixpath.relpath(site, posixpath.dirname(here) or ".")
        return f"{picture}[{words}]({relative}{anchor or ''})"

    return LINK.sub(replace, markdown)
