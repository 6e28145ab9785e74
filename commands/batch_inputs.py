"""What `convd batch` reads, cut into parts: the same input gives the same parts in every run."""

import contextlib
import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_LIST_SUFFIXES = (".txt", ".lst")


class InputError(Exception):
    """The input cannot be read, or holds no pictures; the text says what to give."""


class Picture(NamedTuple):
    """A picture of the input.

    Attributes:
        path: What its row is named.
        read: Returns its file; an error of this becomes the row's error.
    """

    path: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Part:
    """A piece of the input that becomes one file of the output.

    Attributes:
        name: What identifies it: another one for other pictures.
        pictures: Opens its pictures, in order.
    """

    name: str
    pictures: Callable[[], Iterator[Picture]]


def cut(source: str, pictures_per_part: int) -> list[Part]:
    """Cut an input into parts.

    Tar shards are parts; so are the row groups of Parquet files. Single pictures are counted off.

    Args:
        source: A folder of pictures, shards or Parquet files; a list of paths (.txt); a shard; or
            a Parquet file. Local, or a URL that fsspec opens.
        pictures_per_part: How many single pictures make a part.

    Raises:
        InputError: It does not exist, or holds nothing that can be read.
    """
    system, root = fsspec.core.url_to_fs(source)
    if not system.exists(root):
        raise InputError(f"{source} does not exist: give a folder, a list, .tar or .parquet files")
    files = [root] if system.isfile(root) else sorted(system.find(root))
    parts: list[Part] = []
    single = [one for one in files if one.lower().endswith(PICTURE_SUFFIXES)]
    if len(files) == 1 and files[0].lower().endswith(_LIST_SUFFIXES):
        lines = system.cat_file(files[0]).decode().splitlines()
        single = [line.strip() for line in lines if line.strip()]
        system = None
    for start in range(0, len(single), pictures_per_part):
        paths = single[start : start + pictures_per_part]
        names = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16]
        parts.append(Part(names, partial(_single, system, root, paths)))
    for file in files:
        if file.lower().endswith(".tar"):
            parts.append(Part(_relative(root, file), partial(_shard, system, root, file)))
        if file.lower().endswith(".parquet"):
            with _parquet(system, file) as opened:
                groups = opened.num_row_groups
            parts += [
                Part(f"{_relative(root, file)}:{group}", partial(_rows, system, file, group))
                for group in range(groups)
            ]
    if not parts:
        raise InputError(
            f"{source} holds no pictures ({', '.join(PICTURE_SUFFIXES)}), .tar or .parquet files"
        )
    return parts


def _single(system: Any, root: str, paths: list[str]) -> Iterator[Picture]:  # noqa: ANN401
    for path in paths:
        if system is None:
            yield Picture(path, partial(_open_any, path))
        else:
            yield Picture(_relative(root, path), partial(system.cat_file, path))


def _shard(system: Any, root: str, file: str) -> Iterator[Picture]:  # noqa: ANN401
    try:
        with system.open(file) as opened, tarfile.open(fileobj=opened, mode="r|") as shard:
            for member in shard:
                content = shard.extractfile(member)
                if content is not None and member.name.lower().endswith(PICTURE_SUFFIXES):
                    data = content.read()
                    yield Picture(f"{_relative(root, file)}/{member.name}", partial(bytes, data))
    except tarfile.TarError as error:
        raise InputError(f"{file} is damaged: {error}") from error


def _rows(system: Any, file: str, group: int) -> Iterator[Picture]:  # noqa: ANN401
    """Rows with `bytes` (or `image`, also as a structure of bytes and path), or with `path`."""
    with _parquet(system, file) as opened:
        table = opened.read_row_group(group).to_pylist()
    for number, row in enumerate(table):
        image = row.get("image")
        nested = image if isinstance(image, dict) else {"bytes": image}
        data = row.get("bytes") or nested.get("bytes")
        path = row.get("path") or nested.get("path") or f"{group}/{number}"
        yield Picture(path, partial(bytes, data) if data else partial(_open_any, path))


@contextlib.contextmanager
def _parquet(system: Any, file: str) -> Iterator[pq.ParquetFile]:  # noqa: ANN401
    try:
        with system.open(file) as opened:
            yield pq.ParquetFile(opened)
    except pa.ArrowException as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from error


def _open_any(path: str) -> bytes:
    with fsspec.open(path, "rb") as opened:
        data: bytes = opened.read()
    return data


def _relative(root: str, file: str) -> str:
    return file.removeprefix(root).lstrip("/") or file.rpartition("/")[2]
