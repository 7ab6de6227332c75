"""Sound for models that read a waveform: one wav file, or a folder or tar of them.

Samples become numbers from -1 to 1, channels their mean. A file is cut into windows of the model's
length, the rest left out; a shorter one is filled up with silence. With a labels.csv (columns file,
label) each file gives one window, its first, and one class. All files must have one sample rate,
and nothing is resampled.
"""

from __future__ import annotations

import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.class_labels import KnownClasses, to_classes
from dfqonnx.data.file_tree import FLAG, FileTree, open_tree
from dfqonnx.data.foreign_files import parsing
from dfqonnx.data.image_files import LABELS, parse_labels
from dfqonnx.data.input_arrays import ArrayTensors
from dfqonnx.data.label_types import ClassLabels
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.foreign_text import printable

SUFFIX = ".wav"
MOST_LEVEL = 1e6  # of a sample; full scale is 1


@dataclass(frozen=True)
class Waves:
    """Windows of sound as the model reads them, and the classes of the files where known."""

    tensors: ArrayTensors
    labels: ClassLabels | None
    note: str


def read_waves(tree: FileTree, shape: tuple[int, ...], known: KnownClasses) -> Waves:
    """Read windows for a model that takes `shape` (no batch axis): (L,) or (1, L) samples.

    Raises:
        UsageError: the model takes something else, a file is damaged, or rates differ.
    """
    length = math.prod(shape)
    if length != max(shape, default=0) or length < 2:
        form = "x".join(map(str, shape))
        raise UsageError(
            f"{FLAG} {tree.path}: wav files are for a model that reads samples, (N, L) or"
            f" (N, 1, L); this one reads {form}: give its inputs as an npz with x"
        )
    table = next((n for n in tree.named(LABELS)), None)
    if table is None:
        rows = _list_class_folders(tree, known)
    else:
        rows = parse_labels(tree.read(table), tree.where(table))
    folder = "" if table is None else table.rpartition("/")[0]
    names = [f"{folder}/{n}" if folder else n for n, _ in rows] or list(tree.named(SUFFIX))
    windows, rates = [], {}
    for name in names:
        if name not in tree.names:
            raise UsageError(
                f"{tree.where(table or '')}: names {printable(name)!r}, which is not there"
            )
        rate, samples = read_wave(tree.read(name), tree.where(name))
        rates[rate] = name
        if len(rates) > 1:
            first, second = rates
            raise UsageError(
                f"{tree.where(name)}: {second} samples a second, and {rates[first]} has {first};"
                " bring all files to the rate that the model was trained with"
            )
        windows += _cut(samples, length, only_first=bool(rows))
    if not windows:
        raise UsageError(f"{FLAG} {tree.path}: it holds no wav files")
    values = np.stack(windows).reshape(len(windows), *shape)
    rate = next(iter(rates))
    note = f"{len(windows)} windows of {length} samples at {rate} Hz, as stored"
    labels = None
    if rows:
        labels, _ = to_classes([label for _, label in rows], known, where=f"{FLAG} {tree.path}")
    return Waves(ArrayTensors(values), labels, note)


def _list_class_folders(tree: FileTree, known: KnownClasses) -> list[tuple[str, str]]:
    """Return (file, folder) where every file is in a folder that is a class; else nothing."""
    names = tree.named(SUFFIX)
    folders = {name: name.rpartition("/")[0].rpartition("/")[2] for name in names}
    distinct = set(folders.values())
    if "" in distinct or known.count is None:
        return []
    named = all(known.find(folder) is not None for folder in distinct)
    counted = not known.names and len(distinct) == known.count
    return [(name, folders[name]) for name in sorted(names)] if named or counted else []


def find_waves(path: Path) -> FileTree | None:
    """Return the wav files at `path`; None where it holds none, or images beside them.

    Raises:
        UsageError: a damaged tar.
    """
    if path.suffix.lower() == SUFFIX:
        return open_wave_tree(path)
    if not path.is_dir() and path.suffix.lower() != ".tar":
        return None
    tree = open_tree(path)
    return tree if tree.named(SUFFIX) and not tree.images() else None


def open_wave_tree(path: Path) -> FileTree:
    """Return a tree that holds the wav file at `path` alone."""
    return FileTree(path.parent, (path.name,))


def read_wave(data: bytes, where: str) -> tuple[int, NDArray[np.float32]]:
    """Return the rate and the samples (n,) of a wav file, -1 to 1.

    Raises:
        UsageError: not a wav file of plain numbers, or empty.
        EnvironmentProblem: SciPy, which reads it, is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise EnvironmentProblem(f"{where}: reading wav files needs SciPy: pip install scipy")
    from scipy.io import wavfile

    with parsing(where, "wav file"):
        rate, samples = wavfile.read(io.BytesIO(data))
    if not samples.size:
        raise UsageError(f"{where}: it holds no samples")
    if samples.dtype.kind == "u":
        values = (samples.astype(np.float64) - 128) / 128
    elif samples.dtype.kind == "i":
        values = samples / -float(np.iinfo(samples.dtype).min)
    else:
        values = samples.astype(np.float64)
    if not (np.abs(values) < MOST_LEVEL).all():
        raise UsageError(f"{where}: its samples are not finite numbers, or beyond {MOST_LEVEL:g}")
    mono = values.mean(1) if values.ndim == 2 else values
    return int(rate), mono.astype(np.float32)


def _cut(
    samples: NDArray[np.float32], length: int, *, only_first: bool
) -> list[NDArray[np.float32]]:
    count = 1 if only_first else max(1, len(samples) // length)
    padded = np.pad(samples, (0, max(0, length - len(samples))))
    return [padded[k * length : (k + 1) * length] for k in range(count)]
