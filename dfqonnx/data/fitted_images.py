"""Image files and masks brought to the size of a model, with what is known of their places."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.config.measuring import Fit
from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.file_tree import FileTree
from dfqonnx.data.fit import fit_mask, fit_pixels
from dfqonnx.data.foreign_files import FORMATS, open_image, parsing
from dfqonnx.data.label_types import MOST_CLASSES, NO_CLASS
from dfqonnx.errors import UsageError

IGNORED = 255  # of a mask, by custom; in a mask of 0 and 255 alone it is class 1
_PROBED = 16  # masks that are looked at to tell
_WORDS = {
    "crop": "are scaled by the shorter side and cut to the middle",
    "stretch": "are stretched to",
    "letterbox": "are scaled to fit, with gray around them, into",
    "pad": "are scaled to fit, and filled up to the right and below, into",
}


@dataclass(frozen=True, kw_only=True)
class FittedImages:
    """Image files, fitted when they are read."""

    tree: FileTree
    names: tuple[str, ...]
    size: tuple[int, int, int]  # (H, W, C)
    fit: Fit
    zeros: bool = False  # whether what is filled up is 0 in the tensor, instead of gray

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 (n, H, W, C)."""
        return np.stack([self._one(name)[0] for name in self.names[start:stop]])

    def read_tensor(self, start: int, stop: int, inputs: InputFormat) -> NDArray[np.float32]:
        """Return the model's input for images `start` to `stop`; see `zeros`."""
        pairs = [self._one(name) for name in self.names[start:stop]]
        x = inputs.to_tensor(np.stack([pixels for pixels, _ in pairs]))
        if not self.zeros:
            return x
        inside = np.stack([each for _, each in pairs])  # (n, H, W)
        axis = 3 if inputs.preprocessing.layout == "NHWC" else 1
        return np.where(np.expand_dims(inside, axis), x, np.float32(0))

    def note(self) -> str:
        """Return what is done to the first image, where it has another size."""
        height, width = image_size(self.tree, self.names[0])
        if (height, width) == self.size[:2]:
            return ""
        return (
            f"images of another size (the first is {width} x {height})"
            f" {_WORDS[self.fit]} {self.size[1]} x {self.size[0]}"
        )

    def check(self) -> None:
        """Decode every image once.

        Raises:
            UsageError: one cannot be read.
        """
        for start in range(len(self.names)):
            self._one(self.names[start])

    def _one(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        mode = "L" if self.size[2] == 1 else "RGB"
        image = open_image(self.tree.read(name), name=self.tree.where(name), mode=mode)
        return fit_pixels(image, self.size, self.fit)


@dataclass(frozen=True, kw_only=True)
class MaskFiles:
    """Masks as image files of class numbers, fitted like their images."""

    tree: FileTree
    names: tuple[str, ...]
    frame: tuple[int, int]
    fit: Fit
    binary: bool  # 255 is class 1, else it does not count

    @classmethod
    def open(
        cls, tree: FileTree, names: tuple[str, ...], frame: tuple[int, int], fit: Fit
    ) -> MaskFiles:
        """Look at the first masks, and tell whether they are of two classes."""
        probed = [read_mask_file(tree, name) for name in names[:_PROBED]]
        values = np.unique(np.concatenate([np.unique(mask) for mask in probed]))
        is_binary = set(values.tolist()) == {0, IGNORED}
        return cls(tree=tree, names=names, frame=frame, fit=fit, binary=is_binary)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.names)

    def read_masks(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return masks `start` to `stop`, (n, H, W); what does not count is `NO_CLASS`."""
        masks = []
        for name in self.names[start:stop]:
            mask = read_mask_file(self.tree, name)
            mask = np.where(mask == IGNORED, 1 if self.binary else NO_CLASS, mask)
            masks.append(fit_mask(mask, self.frame, self.fit, NO_CLASS))
        return np.stack(masks)


def read_mask_file(tree: FileTree, name: str) -> NDArray[np.int64]:
    """Return a mask (h, w) of class numbers.

    Raises:
        UsageError: it has several channels, or other numbers than those of classes.
    """
    mask = np.asarray(open_image(tree.read(name), name=tree.where(name), mode="P"))
    if mask.ndim == 3 and (mask == mask[..., :1]).all():
        mask = mask[..., 0]  # the same number in every channel
    if mask.ndim != 2:
        raise UsageError(
            f"{tree.where(name)}: a mask of {mask.shape[2]} channels; expected one channel that"
            " holds class numbers"
        )
    numbers = mask.astype(np.int64) if mask.dtype.kind in "iub" else None
    if numbers is None or not ((numbers >= 0) & (numbers < MOST_CLASSES)).all():
        raise UsageError(
            f"{tree.where(name)}: a mask holds whole numbers of classes, {MOST_CLASSES - 1:,} at"
            " most"
        )
    return numbers


def image_size(tree: FileTree, name: str) -> tuple[int, int]:
    """Return height and width of an image file, which is not decoded.

    Raises:
        UsageError: it is no image.
    """
    data = io.BytesIO(tree.read(name))
    with parsing(tree.where(name), "image"), Image.open(data, formats=FORMATS) as image:
        return image.height, image.width
