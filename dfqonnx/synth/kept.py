"""Generators that were trained before: an npz of their arrays, as a run leaves it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from dfqonnx.errors import UsageError


def load_kept(path: str, networks: Sequence[nn.Module]) -> None:
    """Give the networks the arrays in `path`.

    Raises:
        UsageError: no such file, or one of other networks.
    """
    where = f"synth.generator.kept {path}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{where}: no such file") from None
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UsageError(f"{where}: not an npz of a generator ({error})") from None
    for index, network in enumerate(networks):
        own = network.state_dict()
        found = {name: arrays.pop(f"{index}.{name}", None) for name in own}
        for name, value in found.items():
            shape = tuple(own[name].shape)
            if value is None or value.shape != shape:
                has = "missing" if value is None else f"{value.shape}"
                raise UsageError(
                    f"{where}: {index}.{name} is {has}, expected {shape}; it was trained for other "
                    "images or by another recipe"
                )
        network.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in found.items()})
    if arrays:
        raise UsageError(f"{where}: holds more than {len(networks)} generators of this recipe")
