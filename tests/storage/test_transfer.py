"""What is published below a URL is there completely or not at all, and no secret is shown.

`memory://` is a store of fsspec itself; `tests/jobs/test_sweep_on_s3.py` does the same on S3.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from dfqonnx.core.location import as_location, describe_location, is_remote, join_location
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.storage import object_store, transfer
from dfqonnx.storage.object_store import ObjectStore, open_store

pytest.importorskip("fsspec")


@pytest.fixture
def url() -> str:
    return f"memory://bucket-{secrets.token_hex(4)}/result"


def folder_with(path: Path, **texts: str) -> Path:
    for name, text in texts.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def contents(url: str, tmp_path: Path) -> dict[str, str]:
    place = tmp_path / secrets.token_hex(4)
    place.mkdir()
    found = transfer.fetch_result(url, place)
    return {str(p.relative_to(found)): p.read_text() for p in found.rglob("*") if p.is_file()}


def test_what_is_published_can_be_fetched_and_what_is_old_goes(url: str, tmp_path: Path) -> None:
    first = {"a": "1", "sub/b": "2"}
    transfer.publish(folder_with(tmp_path / "one", a="1", sub__b="2"), url)
    assert transfer.is_complete(url)
    assert contents(url, tmp_path) == first
    transfer.publish(folder_with(tmp_path / "two", a="3", c="4"), url)
    assert contents(url, tmp_path) == {"a": "3", "c": "4"}
    assert open_store(url).list_names() == ["a", "c", transfer.MANIFEST], "nothing else is left"


@pytest.mark.parametrize("step", ["upload", "copy", "write"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_publication_that_breaks_off_is_never_taken_for_complete(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    old, new = {"a": "old", "b": "old"}, {"a": "new", "b": "new", "c": "new"}
    transfer.publish(folder_with(tmp_path / "old", **old), url)
    whole, calls = getattr(ObjectStore, step), 0

    def break_off(self: ObjectStore, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise EnvironmentProblem("the network is gone")
        return whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, step, break_off)
        try:
            transfer.publish(folder_with(tmp_path / "new", **new), url)
        except EnvironmentProblem:
            broke = True
        else:
            broke = False  # fewer calls of this kind than `at`
    if transfer.is_complete(url):
        assert contents(url, tmp_path) == (old if broke else new)
    else:
        assert broke
        with pytest.raises(UsageError, match="holds no complete result"):
            contents(url, tmp_path)
    transfer.publish(folder_with(tmp_path / "new"), url)
    assert contents(url, tmp_path) == new
    assert [n for n in open_store(url).list_names() if n.startswith(".")] == []


def test_a_reader_notices_a_file_that_a_second_writer_replaced(url: str, tmp_path: Path) -> None:
    transfer.publish(folder_with(tmp_path / "one", a="1"), url)
    open_store(url).write("a", b"2")
    with pytest.raises(EnvironmentProblem, match="a was replaced"):
        contents(url, tmp_path)


def test_objects_of_somebody_else_are_left_alone(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    store.write("theirs.txt", b"x")
    for attempt in (
        lambda: transfer.check_publishable(url),
        lambda: transfer.publish(folder_with(tmp_path / "one", a="1"), url),
    ):
        with pytest.raises(UsageError, match="dfqonnx did not write"):
            attempt()
    assert store.list_names() == ["theirs.txt"]


def test_a_name_that_leads_out_of_its_folder_is_refused(url: str, tmp_path: Path) -> None:
    transfer.publish(folder_with(tmp_path / "one", a="1"), url)
    store = open_store(url)
    manifest = json.loads(store.read(transfer.MANIFEST) or b"")
    manifest["files"]["../evil"] = manifest["files"].pop("a")
    store.write(transfer.MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(UsageError, match="leads out of its folder"):
        contents(url, tmp_path)


def test_files_that_a_file_refers_to_come_along(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    for name in ("net.onnx", "net.data"):
        store.write(name, name.encode())
    place = transfer.fetch(f"{url}/net.onnx", tmp_path, more=lambda path: ["net.data"])
    assert place.read_bytes() == b"net.onnx"
    assert (tmp_path / "net.data").read_bytes() == b"net.data"
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UsageError, match="its file 'lost' is not there"):
        transfer.fetch(f"{url}/net.onnx", other, more=lambda path: ["lost"])


def test_nothing_behind_a_url_is_a_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is there"):
        transfer.fetch(f"{url}/none.onnx", tmp_path)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_package_that_is_missing_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    import fsspec

    def refuse(*arguments: Any, **more: Any) -> None:
        raise ImportError("no such package")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(EnvironmentProblem, match="pip install") as caught:
        open_store(f"{scheme}://bucket/x")
    assert object_store.PACKAGES[scheme] in caught.value.message


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    import fsspec

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError("denied to hunter2hunter2 at https://u:pw@host/x?sig=abc")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(EnvironmentProblem) as caught:
        open_store("s3://KEY:SECRET@host/bucket?sig=123")
    for secret in ("hunter2", "SECRET", "sig=", "pw@"):
        assert secret not in caught.value.message
    assert "credentials of this machine" in caught.value.message


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("s3://b/x.onnx", "s3://b/x.onnx"),
        (Path("s3://b/x.onnx"), "s3://b/x.onnx"),
        ("file:///a/b", "/a/b"),
        (Path("file:///a/b"), "/a/b"),
        ("a/b", "a/b"),
        ("c:/x", "c:/x"),
    ],
)
def test_a_url_survives_where_paths_travel(given: str | Path, location: str) -> None:
    assert as_location(given) == location
    assert is_remote(given) == location.startswith("s3:")


def test_locations_join_and_lose_what_is_secret() -> None:
    assert join_location("s3://b/x", "y", "z") == "s3://b/x/y/z"
    assert describe_location("s3://k:s@b/x?q=1") == "s3://b/x"
