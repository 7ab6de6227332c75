"""Locations: a path on this machine, or a URL such as `s3://bucket/folder`, in one text.

A URL that was taken for a path has lost a slash (`Path("s3://b/net.onnx")` is `s3:/b/net.onnx`),
which `as_location` gives back; so one may travel where paths do. `file://` is a path. What a URL
may hold of a secret (`s3://KEY:SECRET@host/`, `?sig=...`) is never shown: `describe_location`.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

SCHEMES = frozenset(
    ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "http", "https", "memory")
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?=[^/])")
_SECRET = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s'\"]*")


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL, `file://` included."""
    found = _URL.match(str(location))
    return found is not None and (found[1].lower() in SCHEMES or found[1].lower() == "file")


def is_remote(location: str | Path) -> bool:
    """Return whether what is there has to be fetched."""
    return is_url(location) and not str(location).lower().startswith("file:")


def as_location(given: str | Path) -> str:
    """Return a URL with both of its slashes, or a path; `file://` becomes a path.

    >>> as_location(Path("s3://bucket/net.onnx"))
    's3://bucket/net.onnx'
    >>> as_location("file:///tmp/a%20b.onnx")
    '/tmp/a b.onnx'
    """
    text = str(given)
    found = _URL.match(text)
    if found is None or not is_url(text):
        return text
    rest = text[found.end() :]
    if found[1].lower() == "file":
        return f"/{unquote(rest.removeprefix('localhost/'))}"
    return f"{found[1].lower()}://{rest.rstrip('/')}"


def join_location(base: str, *names: str) -> str:
    """Return the location of names below `base`.

    >>> join_location("s3://bucket/a", "b", "c.onnx")
    's3://bucket/a/b/c.onnx'
    """
    if is_remote(base):
        return "/".join((base.rstrip("/"), *names))
    return str(Path(base, *names))


def last_name(location: str) -> str:
    """Return the name of the file or folder, without what stands behind a `?`."""
    if is_remote(location):
        return PurePosixPath(location.partition("://")[2].partition("?")[0]).name
    return Path(location).name


def parent_location(location: str) -> str:
    """Return the location of the folder around."""
    if is_remote(location):
        scheme, _, rest = location.partition("://")
        return f"{scheme}://{rest.rpartition('/')[0]}"
    return str(Path(location).parent)


def describe_location(location: str | Path) -> str:
    """Return a location as it may be shown: without names, keys and signatures in a URL.

    >>> describe_location("s3://key:secret@host/b/net.onnx?X-Amz-Signature=1")
    's3://host/b/net.onnx'
    """
    text = as_location(location)
    return _SECRET.sub("", text) if is_remote(text) else text


def hide_secrets(text: str) -> str:
    """Return a message without what URLs in it hold of secrets."""
    return _SECRET.sub("", text) if "://" in text else text


def find_paths(pattern: str) -> list[str]:
    """Return the paths on this machine that match a pattern, sorted."""
    return sorted(glob.glob(pattern, recursive=True))
