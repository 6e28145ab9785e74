"""Reads class names from files, in the forms that tools write them."""

import codecs
import csv
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from convd.export.errors import SourceError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN = 3


class LabelsFile(NamedTuple):
    """Class names in the order of the outputs.

    Attributes:
        labels: The names.
        note: What was done to read them, where that is more than reading lines; None otherwise.
    """

    labels: tuple[str, ...]
    note: str | None = None


def read_labels(data: bytes, name: str) -> LabelsFile:
    """Read class names.

    Args:
        data: The file's bytes: one name a line, with or without its index; CSV; or JSON, a list or
            an object such as `id2label`. UTF-8, UTF-16, or an older 8-bit encoding.
        name: The file's name, for the texts.

    Raises:
        SourceError: There are no names, or their indices are not 0, 1, 2, ...
    """
    text, note = _decode(data, name)
    if text.lstrip().startswith(("{", "[")):
        return LabelsFile(_from_json(text, name), note)
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not any(lines):
        raise SourceError(f"{name} holds no labels: write one name a line")
    numbered = _without_indices(lines)
    if numbered is not None:
        shown = ", ".join(numbered[:_SHOWN])
        text = f"{name}: indices are left out of the labels: {shown}, ..."
        return LabelsFile(tuple(numbered), "; ".join(filter(None, (note, text))))
    if len(lines) == 1 and "," in lines[0]:
        return LabelsFile(split_labels(lines[0]), note)
    quoted = all(line.startswith('"') and line.endswith('"') for line in lines)
    return LabelsFile(
        tuple(next(csv.reader([line]))[0] if quoted else line for line in lines), note
    )


def split_labels(text: str) -> tuple[str, ...]:
    """Take names with commas between them apart; quotes keep a comma that belongs to a name."""
    return tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True)))


def _decode(data: bytes, name: str) -> tuple[str, str | None]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace"), None
    if b"\0" in data:
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        return data.decode(encoding, "replace"), None
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), f"{name} is not UTF-8: it was read as Latin-1"


def _from_json(text: str, name: str) -> tuple[str, ...]:
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"{name} looks like JSON and is damaged: {error}") from error
    if isinstance(loaded, Mapping):
        loaded = next(
            (loaded[key] for key in ("id2label", "labels", "classes", "names") if key in loaded),
            loaded,
        )
    if isinstance(loaded, Mapping):
        pairs = [(str(key), value) for key, value in loaded.items()]
        if all(isinstance(value, int) for _, value in pairs):
            pairs = [(str(value), key) for key, value in pairs]
        if not all(key.isdecimal() for key, _ in pairs):
            raise SourceError(f'{name} has no indices: write {{"0": "cat", "1": "dog"}}')
        found = {int(key): value for key, value in pairs}
        if sorted(found) != list(range(len(found))):
            raise SourceError(f"{name}: the indices of the labels are not 0 to {len(found) - 1}")
        loaded = [found[index] for index in range(len(found))]
    # ImageNet's index has the synset and the name of each class.
    return tuple(str(each[-1] if isinstance(each, list) and each else each) for each in loaded)


def _without_indices(lines: Sequence[str]) -> list[str] | None:
    """Names whose lines have their index before or behind them, in the order of the indices."""
    for separator in (",", "\t", ";", ":", " "):
        rows = [_two_parts(line, separator) for line in lines]
        if not _is_numbered(rows[0]) and all(map(_is_numbered, rows[1:])):
            rows = rows[1:] or rows
        for number, text in ((0, 1), (1, 0)):
            indices = [row[number] for row in rows]
            if not all(index.isdecimal() for index in indices):
                continue
            named = dict(zip(map(int, indices), (row[text] for row in rows), strict=True))
            first = min(named)
            distinct = len(set(named.values())) == len(rows)
            if first <= 1 and distinct and sorted(named) == list(range(first, first + len(rows))):
                return [named[index] for index in sorted(named)]
    return None


def _two_parts(line: str, separator: str) -> tuple[str, str]:
    if separator in (",", ";"):
        parts = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    else:
        head, _, tail = line.partition(separator)
        parts = [head, tail] if head.strip().isdecimal() else list(line.rpartition(separator)[::2])
    if len(parts) != 2 or not all(part.strip() for part in parts):
        return "", ""
    return parts[0].strip(), parts[1].strip()


def _is_numbered(row: tuple[str, str]) -> bool:
    return row[0].isdecimal() or row[1].isdecimal()
