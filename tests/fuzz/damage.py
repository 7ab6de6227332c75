"""Damaged data files over every reader, a new one for each seed: of bad disks and strangers."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import struct
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SIDE, COUNT = 8, 6
Damage = Callable[[bytes, np.random.Generator], bytes]


def image_bytes(rng: np.random.Generator, form: str, side: int = SIDE) -> bytes:
    """A small image in a file format that Pillow names."""
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bytes are others."""
    out = bytearray(data)
    for at in rng.integers(0, len(out), int(rng.integers(1, 9))):
        out[at] ^= int(rng.integers(1, 256))
    return bytes(out)


def flip_head(data: bytes, rng: np.random.Generator) -> bytes:
    return flip(data[:64], rng) + data[64:]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def drop(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch in the middle is missing."""
    at = int(rng.integers(0, len(data)))
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + data[max(0, at - 30) : at] * int(rng.integers(1, 5)) + data[at:]


def zeros(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch was never written."""
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 512))
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def numbers(data: bytes, rng: np.random.Generator) -> bytes:
    """A 32-bit number becomes an extreme one."""
    at = int(rng.integers(0, max(1, len(data) - 4)))
    value = int(rng.choice([0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000]))
    return data[:at] + struct.pack(str(rng.choice(["<I", ">I"])), value) + data[at + 4 :]


def digits(data: bytes, rng: np.random.Generator) -> bytes:
    """A digit becomes many, or another character."""
    places = [at for at, byte in enumerate(data) if 48 <= byte < 58] or [0]
    at = int(rng.choice(places))
    new = [b"9" * 20, b"-1", b"", b"x", b"\x1a", b"\x00", b"1e9", "\u0663".encode(), b"9" * 5000]
    return data[:at] + new[int(rng.integers(len(new)))] + data[at + 1 :]


DAMAGES: tuple[Damage, ...] = (flip, flip_head, cut, drop, repeat, zeros, numbers, digits)


def write_zip(path: Path, entries: dict[str, bytes], rng: np.random.Generator) -> None:
    """A zip with one of the usual compressions; now and then flags that claim something else."""
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(path, "w", kinds[int(rng.integers(len(kinds)))]) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.15:  # encrypted, or of an unknown method, in both headers
        shift, value = ((0, 1), (2, 99))[int(rng.integers(2))]
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.find(signature)
            while at >= 0:
                data[at + offset + shift] = value
                at = data.find(signature, at + 4)
        path.write_bytes(bytes(data))


def npz(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    """An npz of images and labels, damaged as a whole, or an entry of it before it is packed."""
    entries = {
        "x.npy": npy_bytes(rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)),
        "y.npy": npy_bytes(rng.integers(0, 4, COUNT)),
        "class_names.npy": npy_bytes(np.array(["a", "b", "c", "d"])),
    }
    inner = rng.random() < 0.5
    if inner:
        name = str(rng.choice(list(entries)))
        entries[name] = damage(entries[name], rng)
    path = folder / "data.npz"
    write_zip(path, entries, rng)
    if not inner:
        path.write_bytes(damage(path.read_bytes(), rng))
    return path


def npz_of_odd_arrays(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    """Arrays that are whole, and not what was asked for."""
    x = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    y = rng.integers(0, 4, COUNT)
    odd = [
        {"x": x, "y": y.astype(np.float64)},
        {"x": x, "y": np.array([2**63 + 1] * COUNT, np.uint64)},
        {"x": x, "y": y.reshape(2, -1)},
        {"x": x, "y": np.array(3)},
        {"x": np.array(3), "y": y},
        {"x": x.view(np.dtype("V3")), "y": y},
        {"x": x, "y": np.array(["a"] * COUNT)},
        {"x": x, "y": np.array([None] * COUNT)},
        {"x": x, "y": y, "class_names": np.array([b"\xff"] * 4)},
        {"x": x, "y": np.zeros(COUNT, "M8[s]")},
        {"x": np.zeros((COUNT, 0, 8, 3), np.uint8), "y": y},
        {"x": np.zeros(COUNT, [("a", np.uint8)]), "y": y},
    ]
    path = folder / "data.npz"
    np.savez(path, **odd[int(rng.integers(len(odd)))])
    return path


def table_bytes(names: list[str], rng: np.random.Generator) -> bytes:
    """A labels.csv, now and then with what tables of elsewhere have."""
    rows = "".join(f"{name},{int(rng.integers(0, 4))}\n" for name in names)
    text = f"file,label\n{rows}"
    odd = [
        text.replace("\n", "\r"),
        text.replace("\n", "\r\n"),
        f"file,label\n{'a' * 200_000},1\n",
        f'file,label\n"{names[0]},1\n{rows}',
        text.replace(",1", ",12345678901234567890"),
        text.replace("file", "\ufefffile"),
        text.replace(names[0], "../../outside.png"),
        text.replace(names[0], "/etc/passwd"),
        text.replace(names[0], "a\x00b.png"),
        text.replace("label", "LABEL"),
        text + "tail\n",
        "",
    ]
    return (odd[int(rng.integers(len(odd)))] if rng.random() < 0.3 else text).encode("utf-8")


def picture_files(rng: np.random.Generator, damage: Damage) -> dict[str, bytes]:
    """Images of every kind with a table; one of them, or the table, is damaged."""
    forms = {"a.png": "PNG", "b.jpg": "JPEG", "c.ppm": "PPM", "d.bmp": "BMP", "e.webp": "WEBP"}
    forms |= {"f.tif": "TIFF", "g.gif": "GIF"}
    files = {name: image_bytes(rng, form) for name, form in forms.items()}
    files["labels.csv"] = table_bytes(list(files), rng)
    name = str(rng.choice(list(files)))
    files[name] = odd_picture(rng) if rng.random() < 0.2 else damage(files[name], rng)
    return files


def odd_picture(rng: np.random.Generator) -> bytes:
    """A file that is whole and hostile."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 80_000_000, zip=True)
    bomb = io.BytesIO()
    if rng.random() < 0.1:
        Image.new("L", (4, 4)).save(bomb, "PNG", pnginfo=info)
        return bomb.getvalue()
    side = int(rng.choice([1, 30_000, 60_000]))
    Image.new("1", (side, 1)).save(bomb, "PNG")
    claims = b"P6\n%d %d\n255\n" % (int(rng.integers(1, 10**9)), int(rng.integers(1, 10**9)))
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    huge += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    choices = [bomb.getvalue(), claims, huge, b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>"]
    return choices[int(rng.integers(len(choices)))]


def folder(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    place = folder / "images"
    place.mkdir()
    for name, content in picture_files(rng, damage).items():
        (place / name).write_bytes(content)
    if rng.random() < 0.2:  # by sub-folder
        (place / "labels.csv").unlink()
        (place / str(rng.choice(["0", "1", "zebra", "9" * 20, "\u0663"]))).mkdir()
    return place


def tar(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    """A tar, compressed or not, damaged as a whole or in one file."""
    inner = rng.random() < 0.5
    files = picture_files(rng, damage if inner else lambda data, _: data)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packers = {".tar": bytes, ".tar.gz": gzip.compress, ".tar.bz2": bz2.compress}
    packers[".tar.xz"] = lzma.compress
    suffix = str(rng.choice(list(packers)))
    data = raw.getvalue()
    if not inner and rng.random() < 0.5:  # before it is compressed
        data = damage(data, rng)
        inner = True
    data = packers[suffix](data)
    path = folder / f"data{suffix}"
    path.write_bytes(data if inner else damage(data, rng))
    return path


def value_damage(text: str, rng: np.random.Generator) -> str:
    """One number or word of a text becomes something that no label is."""
    words = re.split(r"(-?[\w.]+)", text)
    at = int(rng.choice(range(1, len(words), 2)))
    odd = [
        "-1",
        "1e308",
        "NaN",
        "Infinity",
        "null",
        "true",
        "[]",
        "{}",
        '"x"',
        "9" * 30,
        "0",
        "1.5",
    ]
    words[at] = str(rng.choice(odd))
    return "".join(words)


def labeled_folder(
    folder: Path, labels: dict[str, str], rng: np.random.Generator, damage: Damage
) -> Path:
    """Images a.png and b.png in images/ with label files; one file or value is damaged."""
    place = folder / "data"
    files = {f"images/{name}.png": image_bytes(rng, "PNG") for name in "ab"}
    name = str(rng.choice(list(labels)))
    files |= {key: text.encode() for key, text in labels.items()}
    if rng.random() < 0.6:
        files[name] = value_damage(labels[name], rng).encode()
    else:
        name = str(rng.choice(list(files)))
        files[name] = damage(files[name], rng)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def coco(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    content = {
        "images": [{"id": k, "file_name": f"{n}.png", "width": SIDE, "height": SIDE}
                   for k, n in enumerate("ab", 1)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": k, "image_id": k, "category_id": k, "bbox": [1, 1, 4, 3.5], "iscrowd": 0}
            for k in (1, 2)
        ],
    }  # fmt: skip
    place = labeled_folder(folder, {"instances.json": json.dumps(content)}, rng, damage)
    return place / "instances.json" if rng.random() < 0.5 else place


def yolo(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    labels = {
        "labels/a.txt": "0 0.5 0.5 0.25 0.5\n",
        "labels/b.txt": "1 0.4 0.4 0.2 0.2\n0 0.6 0.6 0.1 0.1\n",
        "data.yaml": "names: [cat, dog]\n",
    }
    return labeled_folder(folder, labels, rng, damage)


def plain(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    images = [
        {"image": "images/a.png", "boxes": [[1, 1, 4, 4, 0]], "text": "abc"},
        {"image": "images/b.png", "boxes": [[2, 2, 6, 5, 1]], "text": "d"},
    ]
    content = json.dumps({"classes": ["cat", "dog"], "images": images})
    place = labeled_folder(folder, {"labels.json": content}, rng, damage)
    return place / "labels.json" if rng.random() < 0.5 else place


def texts(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    table = "file,text\nimages/a.png,abc\nimages/b.png,d e\n"
    return labeled_folder(folder, {"texts.csv": table}, rng, damage)


def masks(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    place = labeled_folder(folder, {"notes.txt": "1 2 3"}, rng, lambda data, _: data)
    (place / "masks").mkdir()
    for name in "ab":
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 3, (SIDE, SIDE), dtype=np.uint8)).save(file, "PNG")
        data = file.getvalue()
        (place / "masks" / f"{name}.png").write_bytes(damage(data, rng) if name == "a" else data)
    return place


def wav(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(rng.integers(-999, 999, 800, dtype=np.int16).tobytes())
    path = folder / "a.wav"
    path.write_bytes(damage(file.getvalue(), rng))
    return path


def npy(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    path = folder / "x.npy"
    path.write_bytes(damage(npy_bytes(rng.normal(size=(4, 8)).astype(np.float32)), rng))
    return path


def other(folder: Path, rng: np.random.Generator, damage: Damage) -> Path:
    """Files that are no evaluation data, or only by their name."""
    contents = {
        "data.npy": npy_bytes(np.zeros(4)),
        "data.zip": b"PK\x05\x06" + bytes(18),
        "data.npz": b"PK\x05\x06" + bytes(18),
        "data.tar": b"hello" * 300,
        "data.tar.gz": gzip.compress(bytes(10**6)),
        "data.csv": b"file,label\n",
        "data": b"",
    }
    name = str(rng.choice(list(contents)))
    path = folder / name
    path.write_bytes(damage(contents[name], rng) if contents[name] else b"")
    return path


READERS = (
    *(npz, npz, npz_of_odd_arrays, folder, folder, tar, tar, other),
    *(coco, yolo, plain, texts, masks, wav, npy, coco),
)


def damaged(seed: int, place: Path) -> tuple[Path, str]:
    """Write the data of `seed` below `place`; return its path and what was done to it."""
    rng = np.random.default_rng([23, seed])
    reader = READERS[seed % len(READERS)]
    damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
    return reader(place, rng, damage), f"{reader.__name__}, {damage.__name__}"
