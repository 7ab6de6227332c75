"""Package metadata that depends on where the repository lives: addresses, and links of README.

A page of a package index has no files beside it, so relative links of README are broken there. The
release workflow says where the repository is (GITHUB_SERVER_URL and GITHUB_REPOSITORY, which GitHub
sets, and GITHUB_REF_NAME); links then lead there. Built anywhere else, a link becomes its own text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]*)\)")


class CustomMetadataHook(MetadataHookInterface):
    """Fills in `urls` and `readme`, which pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to `metadata`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        home = repository()
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, home)}
        metadata["urls"] = {} if home is None else addresses(home)


def repository() -> str | None:
    """Return the address of the repository; None where nobody says."""
    name = os.environ.get("GITHUB_REPOSITORY")
    return name and f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"


def addresses(home: str) -> dict[str, str]:
    """Return the links that an index shows beside the package."""
    return {
        "Homepage": home,
        "Documentation": f"{home}/tree/HEAD/docs",
        "Changelog": f"{home}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{home}/issues",
        "Source": home,
    }


def absolute_links(text: str, home: str | None) -> str:
    """Return Markdown whose relative links lead to the repository, or are text without one."""
    ref = os.environ.get("GITHUB_REF_NAME", "HEAD")

    def replace(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        if home is None:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({home}/{kind}/{ref}/{path})"

    return LINK.sub(replace, text)
