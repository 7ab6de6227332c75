"""Data files that are whole as files, and say what cannot be: a new one for each seed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.damage import DAMAGES, SIDE, image_bytes, npy_bytes

Rng = np.random.Generator
VALUES: tuple[Any, ...] = (
    *(None, [], {}, "", "x" * 5000, -1, -1.5, 0, 1e308, 10**30, 2**31 - 1, 2**53, 2**63, True),
    *(float("nan"), float("inf"), [[]], {"a": 1}, "\u202e\x1b[31m", "::error::x", "\ud800"),
    *([1, 2, 3, 4, 5], "../../x.png", "a\0b"),
)
WORDS = (
    *("nan", "-inf", "1e400", "-1", "0x10", "1_000", "\u0663", "", "2147483647", "9" * 20, "x"),
    *("\x00", "\x1b[2J", "::error::", "1e9", "1e-320", "\x85", "\u2028"),
)
HEADERS = (
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}", "{", "5", "{}"),
    *("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8, 3)}", "(" * 200 + ")" * 200),
    *("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000,)}", "__import__('os')"),
    *("{'descr': '<f4', 'fortran_order': 5, 'shape': (2, 8)}", "{'descr': '<f4'}", "\x00"),
    *("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(1," * 90 + ")" * 90 + "}", "[]"),
    *("{'descr': ('<f4', (1000000000,)), 'fortran_order': False, 'shape': (2,)}", "x" * 20_000),
)


def mutate(content: Any, rng: Rng) -> Any:
    """Return JSON with one value of it lost, or another one in its place."""
    places = list(_places(content))
    place = places[int(rng.integers(len(places)))]
    value = VALUES[int(rng.integers(len(VALUES)))]
    return _replaced(content, place, value, remove=bool(place) and rng.random() < 0.2)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    listed = range(len(value)) if isinstance(value, list) else ()
    for key in value if isinstance(value, dict) else listed:
        yield from _places(value[key], (*at, key))


def _replaced(content: Any, place: tuple[Any, ...], value: Any, *, remove: bool) -> Any:
    if not place:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    if remove and len(place) == 1:
        del changed[place[0]]
    else:
        changed[place[0]] = _replaced(changed[place[0]], place[1:], value, remove=remove)
    return changed


def write_images(folder: Path, rng: Rng) -> None:
    (folder / "images").mkdir()
    for name in "ab":
        (folder / "images" / f"{name}.png").write_bytes(image_bytes(rng, "PNG"))


def coco(folder: Path, rng: Rng) -> Path:
    write_images(folder, rng)
    whole = {
        "images": [{"id": k, "file_name": f"{n}.png", "width": SIDE, "height": SIDE}
                   for k, n in enumerate("ab", 1)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 4, 3.5]}],
    }  # fmt: skip
    path = folder / "instances.json"
    path.write_text(json.dumps(mutate(whole, rng)))
    return path if rng.random() < 0.5 else folder


def plain(folder: Path, rng: Rng) -> Path:
    write_images(folder, rng)
    entry = {"image": "images/a.png", "boxes": [[1, 1, 4, 4, 0]], "text": "abc"}
    whole = {"classes": ["cat", "dog"], "images": [entry, {**entry, "image": "images/b.png"}]}
    path = folder / "labels.json"
    path.write_text(json.dumps(mutate(whole, rng)))
    return path if rng.random() < 0.5 else folder


def yolo(folder: Path, rng: Rng) -> Path:
    write_images(folder, rng)
    (folder / "labels").mkdir()
    row = ["1", "0.5", "0.5", "0.25", "0.5"]
    row[int(rng.integers(5))] = WORDS[int(rng.integers(len(WORDS)))]
    (folder / "labels" / "a.txt").write_text("0 0.1 0.1 0.1 0.1\n" + " ".join(row))
    names = ("[cat, dog]", "{0: cat, 5: d}", "5", "&a [*a]", "[[a], {b: c}]", "!!set {a}", "[1e9]")
    (folder / "data.yaml").write_text(f"names: {names[int(rng.integers(len(names)))]}")
    return folder


def masks(folder: Path, rng: Rng) -> Path:
    write_images(folder, rng)
    (folder / "masks").mkdir()
    codes = rng.integers(0, 3, (SIDE, SIDE))
    scale = int(rng.choice([1, 1000, 10**8]))
    forms = (
        (codes * scale).astype(np.int32), codes.astype(np.float32) / 2, -codes.astype(np.int32),
        codes.astype(np.uint16), np.full((SIDE, SIDE), np.nan, np.float32),
        rng.integers(0, 9, (SIDE, SIDE, 3)).astype(np.uint8),
    )  # fmt: skip
    for name in "ab":
        mask = forms[int(rng.integers(len(forms)))]
        Image.fromarray(mask).save(folder / "masks" / f"{name}.tif")
    return folder


def arrays(folder: Path, rng: Rng) -> Path:
    """An npz, or an npy with labels beside it, with an odd header."""
    header = HEADERS[int(rng.integers(len(HEADERS)))].encode() + b"\n"
    version = int(rng.integers(1, 4))
    length = int(rng.choice([len(header), 1, 0xFFFF])) if rng.random() < 0.3 else len(header)
    odd = b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(2 if version == 1 else 4, "little")
    odd += header + bytes(int(rng.choice([0, 64, 1200])))
    entries = {"x": npy_bytes(np.zeros((6, SIDE, SIDE, 3), np.uint8)), "y": npy_bytes(np.zeros(6))}
    entries[str(rng.choice(["x", "y"]))] = odd
    if rng.random() < 0.5:
        for name, content in entries.items():
            (folder / f"{name}.npy").write_bytes(content)
        return folder / "x.npy"
    with zipfile.ZipFile(folder / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return folder / "d.npz"


def wave(folder: Path, rng: Rng) -> Path:
    """Sound of every kind of number, with an odd field in its header."""
    from scipy.io import wavfile

    level = float(rng.choice([1, 1e30, np.inf, np.nan]))
    kinds = (np.int16, np.int32, np.int64, np.uint8, np.float32, np.float64)
    kind = kinds[int(rng.integers(len(kinds)))]
    samples = rng.normal(size=(400, int(rng.integers(1, 3)))) * 9
    if np.dtype(kind).kind == "f":
        samples = samples * level
    file = io.BytesIO()
    wavfile.write(file, 8000, samples.astype(kind))
    data = bytearray(file.getvalue())
    if rng.random() < 0.6:
        at = int(rng.choice([4, 16, 20, 22, 24, 28, 32, 34, 40]))
        value = int(rng.choice([0, 1, 3, 7, 0x7FFF, 0xFFFE, 0xFFFF]))
        data[at : at + 2] = value.to_bytes(2, "little")
    (folder / "a.wav").write_bytes(bytes(data))
    return folder / "a.wav"


def parquet(folder: Path, rng: Rng) -> Path:
    """Rows as the hub stores them, with odd labels or an odd description, or damaged."""
    import pyarrow as arrow
    from pyarrow import parquet as writer

    images = [{"bytes": image_bytes(rng, "PNG"), "path": None} for _ in range(4)]
    labels = ([0, 1, 2, 3], [None] * 4, [1.5] * 4, [[1]] * 4, [2**40] * 4, [True] * 4, list("abcd"))
    features = {"info": {"features": {"label": {"names": list("abcd")}}}}
    content = mutate(features, rng) if rng.random() < 0.5 else features
    table = arrow.table({"image": images, "label": labels[int(rng.integers(len(labels)))]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(content)})
    path = folder / "d.parquet"
    writer.write_table(table, path, compression=str(rng.choice(["snappy", "gzip", "zstd", "none"])))
    if rng.random() < 0.4:
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        path.write_bytes(damage(path.read_bytes(), rng))
    return path if rng.random() < 0.5 else folder


READERS = (coco, plain, yolo, masks, arrays, wave, parquet)


def odd(seed: int, place: Path) -> tuple[Path, str]:
    """Write the data of `seed` below `place`; return its path and what it is."""
    rng = np.random.default_rng([24, seed])
    reader = READERS[seed % len(READERS)]
    return reader(place, rng), reader.__name__
