"""Fetch what a URL names to this machine, and publish a finished folder below a URL.

A store has no rename of a folder. So a result is there exactly when its `manifest.json` says so:

    1. everything is uploaded to URL/.dfqonnx-partial-TOKEN/, which may take long and may break off
    2. manifest.json, one object, put in one step, says `"complete": false`
    3. the objects are copied within the store to their names, what only the old result had goes
    4. manifest.json says `"complete": true`, with the size and the SHA-256 of every file

A reader who goes by the manifest sees a complete result or none, and can tell a file that a second
writer replaced while it was read. What breaks off before step 2 leaves the old result as it was;
the next publication below the same URL removes uploads that are older than a day.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from dfqonnx.core.location import describe_location, is_remote, last_name, parent_location
from dfqonnx.core.staging import STAGING, is_ours
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.storage.object_store import ObjectStore, open_store

MANIFEST, SCHEMA = "manifest.json", "dfqonnx.manifest/1"
FORGOTTEN_SECONDS = 86_400.0
Names = Callable[[Path], list[str]]  # of further files that a file refers to


def fetch(location: str, folder: Path, *, more: Names | None = None) -> Path:
    """Bring the file or the folder behind a URL into `folder`, which is empty; return its path.

    `more` names the files that a fetched file refers to, which lie beside it.

    Raises:
        UsageError: nothing is there, or a file that another one refers to is missing.
        EnvironmentProblem: the store, a package or a permission is missing.
    """
    store = open_store(location)
    place = folder / (last_name(location) or "data")
    if store.is_file():
        store.download("", place)
        _fetch_beside(location, place, [] if more is None else more(place))
        return place
    names = [name for name in store.list_names() if not is_ours(name.split("/")[0])]
    if not names:
        raise UsageError(f"{describe_location(location)}: nothing is there")
    for name in names:
        file = _inside(place, name, location)
        file.parent.mkdir(parents=True, exist_ok=True)
        store.download(name, file)
    return place


def _fetch_beside(location: str, place: Path, names: list[str]) -> None:
    home = open_store(parent_location(location)) if names else None
    for name in names:
        assert home is not None
        file = _inside(place.parent, name, location)
        if not home.is_file(name):
            raise UsageError(
                f"{describe_location(location)}: its file {name!r} is not there beside it"
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        home.download(name, file)


def _inside(folder: Path, name: str, location: str) -> Path:
    """Return the path of a name below `folder`; a name that leads out of it is refused."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name:
        raise UsageError(
            f"{describe_location(location)}: the name {name!r} leads out of its folder"
        )
    return folder.joinpath(*parts)


def find_locations(pattern: str) -> list[str]:
    """Return the URLs that match a pattern of them.

    Raises:
        UsageError, EnvironmentProblem: the store cannot be asked.
    """
    store = open_store(pattern)
    scheme = pattern.partition("://")[0]
    return [f"{scheme}://{path.lstrip('/')}" for path in store.find(store.root)]


def check_publishable(location: str) -> None:
    """Refuse a URL below which something lies that dfqonnx did not write.

    Raises:
        UsageError: there are objects and no manifest of ours.
        EnvironmentProblem: the store cannot be asked or written to.
    """
    store = open_store(location)
    _check_ours(store)
    probe = f"{STAGING}-{secrets.token_hex(8)}"
    store.write(probe, b"")
    store.remove([probe])


def _check_ours(store: ObjectStore) -> dict[str, Any] | None:
    manifest = read_manifest(store)
    foreign = [n for n in store.list_names() if not is_ours(n.split("/")[0])]
    if manifest is None and foreign:
        raise UsageError(
            f"--out {describe_location(store.url)}: holds objects that dfqonnx did not write"
            f" ({foreign[0]}, ...); choose an empty or new place"
        )
    return manifest


def read_manifest(store: ObjectStore) -> dict[str, Any] | None:
    """Return the manifest below a URL, complete or not; None where there is none of ours."""
    data = store.read(MANIFEST)
    try:
        content = json.loads(data or b"null")
    except ValueError:
        return None
    is_ours = isinstance(content, dict) and content.get("schema") == SCHEMA
    return content if is_ours and isinstance(content.get("files"), dict) else None


def is_complete(location: str) -> bool:
    """Return whether a complete result was published below a URL."""
    found = read_manifest(open_store(location))
    return found is not None and found.get("complete") is True


def publish(folder: Path, location: str) -> None:
    """Put the files of a finished folder below a URL, complete or not at all.

    Raises:
        UsageError: something lies there that dfqonnx did not write.
        EnvironmentProblem: the store does not take it; an old result is still there, or the
            manifest says that there is none.
    """
    store = open_store(location)
    old = _check_ours(store)
    files = {str(p.relative_to(folder).as_posix()): p for p in _list_files(folder)}
    if MANIFEST in files:
        raise UsageError(f"{folder / MANIFEST}: this name is that of the list of files")
    _sweep(store)
    staging = f"{STAGING}-{int(time.time())}-{secrets.token_hex(8)}"
    facts = {name: _describe(path) for name, path in files.items()}
    try:
        for name, path in files.items():
            store.upload(path, f"{staging}/{name}")
        listed = {**(old or {}).get("files", {}), **facts}
        store.write(MANIFEST, _manifest(listed, complete=False))
        for name in files:
            store.copy(f"{staging}/{name}", name)
        store.remove([name for name in listed if name not in files])
        store.write(MANIFEST, _manifest(facts, complete=True))
    finally:
        store.remove([f"{staging}/{name}" for name in files])


def fetch_result(location: str, folder: Path) -> Path:
    """Bring a published result into `folder`, and check every file by the manifest.

    Raises:
        UsageError: there is no complete result.
        EnvironmentProblem: a file is not what the manifest says: it was replaced meanwhile.
    """
    store = open_store(location)
    manifest = read_manifest(store)
    if manifest is None or manifest.get("complete") is not True:
        raise UsageError(f"{describe_location(location)}: holds no complete result")
    for name, known in manifest["files"].items():
        file = _inside(folder, name, location)
        file.parent.mkdir(parents=True, exist_ok=True)
        store.download(name, file)
        if _describe(file) != known:
            raise EnvironmentProblem(
                f"{describe_location(location)}: {name} was replaced while it was read; try again"
            )
    return folder


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _manifest(files: dict[str, Any], *, complete: bool) -> bytes:
    content = {"schema": SCHEMA, "complete": complete, "files": files}
    return (json.dumps(content, indent=2) + "\n").encode()


def _sweep(store: ObjectStore) -> None:
    """Remove what uploads left that broke off a day ago or earlier."""
    left = [name for name in store.list_names() if is_ours(name.split("/")[0])]
    store.remove([name for name in left if _age(name) > FORGOTTEN_SECONDS])


def _age(name: str) -> float:
    parts = name.split("/")[0].removeprefix(f"{STAGING}-").split("-")
    return time.time() - float(parts[0]) if parts[0].isdecimal() and len(parts) > 1 else 0.0


def read_bytes(location: str) -> bytes | None:
    """Return what a file or an object holds; None where there is none.

    Raises:
        EnvironmentProblem: the store cannot be asked.
    """
    if is_remote(location):
        return open_store(location).read()
    path = Path(location)
    return path.read_bytes() if path.is_file() else None
