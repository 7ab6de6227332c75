"""Files behind URLs, through fsspec: `s3://`, `gs://`, `az://` and whatever else it knows.

Credentials are what the packages of these stores find by themselves (environment, profile, role of
the machine). Nothing of them is shown: a message names the location without its user and query, and
loses every value that an environment variable called KEY, SECRET, TOKEN or PASSWORD holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfqonnx.core.location import describe_location, hide_secrets
from dfqonnx.errors import DfqError, EnvironmentProblem, UsageError

PACKAGES = {  # scheme -> the package that fsspec needs for it
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    "hf": "huggingface_hub",
}
_SENSITIVE = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|CONNECTION_STRING|SIGNATURE", re.I)
_LEAST_SECRET = 6  # letters: shorter values are words of messages as well
_DENIED = re.compile(r"denied|forbidden|credential|unauthori[sz]ed|401|403|InvalidAccessKey", re.I)


@dataclass(frozen=True)
class ObjectStore:
    """What lies below a URL; paths are relative to it, with slashes."""

    url: str
    files: Any  # fsspec.AbstractFileSystem
    root: str

    def at(self, name: str = "") -> str:
        """Return the path of `name` in the store."""
        return f"{self.root}/{name}" if name else self.root

    def is_file(self, name: str = "") -> bool:
        """Return whether there is an object of this name."""
        with _explained(self.url):
            return bool(self.files.isfile(self.at(name)))

    def list_names(self) -> list[str]:
        """Return the names of all objects below the URL, sorted."""
        with _explained(self.url):
            try:
                found = self.files.find(self.root)
            except FileNotFoundError:
                return []
        prefix = f"{self.root}/"
        return sorted(
            path.removeprefix(prefix) for path in map(str, found) if path.startswith(prefix)
        )

    def find(self, pattern: str) -> list[str]:
        """Return the paths in the store that match a pattern, sorted."""
        with _explained(self.url):
            return sorted(map(str, self.files.glob(pattern)))

    def identify(self) -> str:
        """Return a text that changes with the content: an entity tag, or size and time."""
        with _explained(self.url):
            if self.files.isdir(self.root):
                found = self.files.find(self.root, detail=True).values()
                return repr(sorted(map(_identify, found)))
            return _identify(self.files.info(self.root))

    def read(self, name: str = "") -> bytes | None:
        """Return the bytes of an object; None where there is none."""
        with _explained(self.url):
            try:
                return bytes(self.files.cat_file(self.at(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Put an object in one step: a reader sees the old one or the new one."""
        with _explained(self.url):
            self.files.pipe_file(self.at(name), data)

    def upload(self, file: Path, name: str) -> None:
        """Put a file."""
        with _explained(self.url):
            self.files.put_file(str(file), self.at(name))

    def download(self, name: str, file: Path) -> None:
        """Fetch an object to a file, whose folder is there.

        Raises:
            UsageError: there is no such object.
        """
        with _explained(self.url):
            self.files.get_file(self.at(name), str(file))

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store."""
        with _explained(self.url):
            self.files.cp_file(self.at(name), self.at(to))

    def remove(self, names: list[str]) -> None:
        """Remove objects; those that are gone already are fine."""
        for name in names:
            with _explained(self.url):
                try:
                    self.files.rm_file(self.at(name))
                except FileNotFoundError:
                    continue


def open_store(url: str) -> ObjectStore:
    """Return the store of a URL.

    Raises:
        UsageError: fsspec does not know the scheme.
        EnvironmentProblem: a package is missing; the message says what to install.
    """
    try:
        import fsspec
    except ImportError:
        raise _missing(url, "fsspec") from None
    with _explained(url):
        files, root = fsspec.core.url_to_fs(url, **_options(url))
    if hasattr(files, "invalidate_cache"):
        files.invalidate_cache()
    return ObjectStore(url, files, str(root).rstrip("/"))


def _options(url: str) -> dict[str, Any]:
    """Return options of fsspec: listings are never taken from a cache."""
    return {} if url.startswith("memory:") else {"use_listings_cache": False}


def _identify(info: dict[str, Any]) -> str:
    tag = next((info[key] for key in ("ETag", "etag", "md5Hash", "content_md5") if key in info), "")
    when = next(
        (info[key] for key in ("LastModified", "last_modified", "mtime") if key in info), ""
    )
    return f"{info.get('name')} {info.get('size')} {tag or when}"


def _missing(url: str, package: str) -> EnvironmentProblem:
    extra = "'dfqonnx[remote]'" if package in {"fsspec", "s3fs"} else package
    return EnvironmentProblem(
        f"{describe_location(url)}: reading and writing there needs {package}; pip install {extra}"
    )


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn whatever a store's package raises into one sentence without secrets."""
    try:
        yield
    except (DfqError, FileNotFoundError) as error:
        if isinstance(error, DfqError):
            raise
        raise UsageError(f"{describe_location(url)}: nothing is there") from None
    except ImportError:
        scheme = url.partition(":")[0]
        raise _missing(url, PACKAGES.get(scheme, f"the package of {scheme}://")) from None
    except Exception as error:  # noqa: BLE001 - every store's package has errors of its own
        reason = _hide(f"{type(error).__name__}: {error}")
        advice = (
            "; check the credentials of this machine, and what they may do there"
            if _DENIED.search(reason)
            else "; check the address and the network"
        )
        raise EnvironmentProblem(f"{describe_location(url)}: {reason}{advice}") from None


def _hide(message: str) -> str:
    """Return a message without the values of variables that hold secrets."""
    for name, value in os.environ.items():
        if _SENSITIVE.search(name) and len(value) >= _LEAST_SECRET:
            message = message.replace(value, "***")
    return hide_secrets(" ".join(message.split()))
