"""Images of text lines with their texts: a csv with the columns file, text.

It lies beside the images as texts.csv or labels.csv, or is given itself. A labels.json with `text`
in every entry (`data/box_files.py`) does as well.
"""

from __future__ import annotations

import csv
import io

from dfqonnx.data.file_tree import FileTree, find_image
from dfqonnx.data.foreign_files import parsing
from dfqonnx.data.image_files import LABEL_COLUMNS, check_line_ends
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable

TABLES = ("texts.csv", "labels.csv")
FILE, TEXT = "file", "text"


def find_text_table(tree: FileTree) -> str | None:
    """Return the csv with the columns file and text; None where there is none."""
    for name in tree.named(".csv"):
        if name.rpartition("/")[2].lower() in TABLES:
            columns = _rows(tree, name)[0]
            if {FILE, TEXT} <= set(columns):
                return name
    return None


def has_texts(tree: FileTree, table: str) -> bool:
    """Return whether a csv has a column of texts, or none of labels either."""
    columns = {column.strip().lower() for column in _rows(tree, table)[0]}
    return TEXT in columns or not columns & set(LABEL_COLUMNS)


def read_texts(tree: FileTree, table: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return images and texts of a csv.

    Raises:
        UsageError: it lacks a column or a value, or names an image that is not there.
    """
    columns, *rows = _rows(tree, table)
    where = tree.where(table)
    if not {FILE, TEXT} <= set(columns):
        raise UsageError(
            f"{where}: its columns are {printable(', '.join(columns)) or 'none'}; expected file and"
            " text"
        )
    file, text = columns.index(FILE), columns.index(TEXT)
    names, texts = [], []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) <= max(file, text):
            raise UsageError(f"{where}, line {number}: a value is missing")
        names.append(find_image(tree, row[file], near=table, where=f"{where}, line {number}"))
        texts.append(row[text])
    if not names:
        raise UsageError(f"{where}: it holds no lines")
    return tuple(names), tuple(texts)


def _rows(tree: FileTree, table: str) -> list[list[str]]:
    text = tree.read_text(table)
    check_line_ends(text, tree.where(table))
    with parsing(tree.where(table), "csv file"):
        return list(csv.reader(io.StringIO(text))) or [[]]
