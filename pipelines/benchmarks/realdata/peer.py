"""ONNX Runtime's own quantizer on real inputs, and what a file needs before it takes it.

`quantize_static` writes QDQ with INT8 weights per channel and UINT8 activations. It works on files
whose weights are initializers and whose opset is 13 or later, so ONNX Runtime's `quant_pre_process`
goes first. Where that is not enough, a file is prepared further, step by step, and the table says
which step it was:

    pre_process             as the manual says
    no symbolic shapes      the same without symbolic shape inference, which open sizes defeat
    opset 17                ONNX's version converter, then pre_process
    converted by dfqonnx    the float file as dfqonnx reads it (operators that ONNX no longer knows)

The first whose result ONNX Runtime loads and runs, and that is smaller than the float file, is it.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.version_converter import convert_version
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import (  # type: ignore[import-untyped]
    quant_pre_process,
)

from dfqonnx.export.writer import write
from dfqonnx.graph.normalize import open_model
from dfqonnx.runtime.session import Session

Feed = NDArray[np.float32]
MINMAX = "quantize_static minmax"
METHODS: Mapping[str, Any] = {
    MINMAX: CalibrationMethod.MinMax,
    "quantize_static percentile": CalibrationMethod.Percentile,
}
OPSET = 17
HELD = (
    4  # inputs whose intermediate values ONNX Runtime holds at a time; of large ones a single one
)
LARGE = 2**20  # numbers of an input


class FeedReader(CalibrationDataReader):  # type: ignore[misc]
    """Inputs one by one; ONNX Runtime asks for them in parts, so that memory suffices."""

    def __init__(self, name: str, feeds: Sequence[Feed]) -> None:
        self._name, self._feeds, self._rest = name, feeds, iter(feeds)

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def input_size(self) -> int:
        """How many numbers an input has."""
        return self._feeds[0].size

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give the inputs from `start_index` to `end_index` next."""
        self._rest = iter(self._feeds[start_index:end_index])

    def get_next(self) -> dict[str, Feed] | None:
        """Return the next input; None after the last."""
        feed = next(self._rest, None)
        return None if feed is None else {self._name: feed}


@dataclass(frozen=True)
class Preparation:
    """What a float file needs before it can be quantized."""

    needed: str  # the preparation that works
    failed: tuple[str, ...] = ()  # those that do not, each with the reason


class Unquantizable(Exception):
    """No preparation led to a file; the message names all of them."""


def find_preparation(model: Path, feed: Feed, *, size: tuple[int, int] | None) -> Preparation:
    """Return the first preparation whose result quantizes and runs, tried on one input (1, ...).

    `size` is the height and width that an input with open axes is given.

    Raises:
        Unquantizable: none does.
    """
    failed: list[str] = []
    for needed in PREPARATIONS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "quantized.onnx"
            try:
                quantize_with_data(
                    model, [feed], out, method=MINMAX, found=Preparation(needed), size=size
                )
                _check(model, out, feed)
            except Exception as error:  # noqa: BLE001 (whatever it is, the next one is tried)
                text = " ".join(str(error).replace(f"{folder}/", "").split())
                text = text.rpartition("This is an invalid model. ")[2][:240]
                failed.append(f"{needed}: {text or type(error).__name__}")
                continue
        return Preparation(needed, tuple(failed))
    raise Unquantizable("; ".join(failed))


def quantize_with_data(
    model: Path,
    feeds: Sequence[Feed],
    out: Path,
    *,
    method: str,
    found: Preparation,
    size: tuple[int, int] | None,
) -> None:
    """Quantize `model` on `feeds`, each (1, ...), as the network reads them; write `out`."""
    name, model, out = Session(model).inputs[0].name, model.resolve(), out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        with contextlib.chdir(folder):  # symbolic shape inference leaves a model where it runs
            PREPARATIONS[found.needed](model, ready, size)
            _quantize(ready, out, FeedReader(name, feeds), method)


def _quantize(ready: Path, out: Path, reader: FeedReader, method: str) -> None:
    count = len(reader)
    most = 1 if reader.input_size > LARGE else min(HELD, count)
    held = max(n for n in range(1, most + 1) if count % n == 0)  # ONNX Runtime wants equal parts
    with contextlib.redirect_stdout(io.StringIO()):  # histograms are announced there
        quantize_static(
            str(ready),
            str(out),
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
            extra_options={"CalibStridedMinMax": held},
        )


def _check(model: Path, out: Path, feed: Feed) -> None:
    """Refuse a file that does not run, or that is no smaller.

    Raises:
        DfqError: ONNX Runtime does not load or run it.
        ValueError: it is no smaller.
    """
    session = Session(out)
    session.run_batched({session.inputs[0].name: feed})
    share = out.stat().st_size / model.stat().st_size
    if share > 1:
        raise ValueError(f"the file has {share:.2f} times the bytes of the float file")


def _pre_process(model: Path, ready: Path, size: tuple[int, int] | None) -> None:
    quant_pre_process(str(model), str(ready))


def _without_symbols(model: Path, ready: Path, size: tuple[int, int] | None) -> None:
    quant_pre_process(str(model), str(ready), skip_symbolic_shape=True)


def _upgrade(model: Path, ready: Path, size: tuple[int, int] | None) -> None:
    between = ready.with_name("upgraded.onnx")
    onnx.save(convert_version(onnx.load(model), OPSET), between)
    quant_pre_process(str(between), str(ready), skip_symbolic_shape=True)


def _convert(model: Path, ready: Path, size: tuple[int, int] | None) -> None:
    between = ready.with_name("converted.onnx")
    write(open_model(model, image_size=size).ir, between)
    quant_pre_process(str(between), str(ready), skip_symbolic_shape=True)


PREPARATIONS: Mapping[str, Callable[[Path, Path, tuple[int, int] | None], None]] = {
    "pre_process": _pre_process,
    "pre_process without symbolic shapes": _without_symbols,
    f"opset {OPSET}, then pre_process": _upgrade,
    "converted by dfqonnx, then pre_process": _convert,
}
