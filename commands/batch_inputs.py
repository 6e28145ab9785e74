"""What `convd batch` reads, cut into parts: the same input gives the same parts in every run."""

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PICTURES_PER_BATCH = 32
_LIST_SUFFIXES = (".txt", ".lst")

# What is wrong with one file, and not with the storage.
_FILE_ERRORS = {
    FileNotFoundError: "there is no file {}",
    IsADirectoryError: "{} is a folder, not a file",
    PermissionError: "{} may not be read",
}

_LOCAL = LocalFileSystem()


class InputError(Exception):
    """The input cannot be read, or holds no pictures; the text says what to give."""


class StoredFile(NamedTuple):
    """Where a file lies.

    Attributes:
        system: The file system, as fsspec has it.
        path: Its path there.
    """

    system: AbstractFileSystem
    path: str


class Picture(NamedTuple):
    """A picture of the input; it can be pickled.

    Attributes:
        path: What its row is named.
        file: Its image file: the bytes, or where they lie.
    """

    path: str
    file: bytes | StoredFile


@dataclass(frozen=True)
class Part:
    """A piece of the input that becomes one file of the output.

    Attributes:
        name: What identifies it: another one for other pictures.
        pictures: Opens its pictures, in order.
    """

    name: str
    pictures: Callable[[], Iterator[Picture]]

    def batches(self) -> Iterator[list[Picture]]:
        """Its pictures in order, so many at a time; the same ones in every run."""
        pictures = self.pictures()
        while batch := list(islice(pictures, PICTURES_PER_BATCH)):
            yield batch


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
    files = [root] if system.isfile(root) else sorted(_files(system, root))
    parts: list[Part] = []
    single = [one for one in files if one.lower().endswith(PICTURE_SUFFIXES)]
    if len(files) == 1 and files[0].lower().endswith(_LIST_SUFFIXES):
        lines = system.cat_file(files[0]).decode(errors="surrogateescape").splitlines()
        single = [line.strip() for line in lines if line.strip()]
        system = None
    for start in range(0, len(single), pictures_per_part):
        paths = single[start : start + pictures_per_part]
        names = hashlib.sha256("\n".join(paths).encode(errors="surrogateescape"))
        parts.append(Part(names.hexdigest()[:16], partial(_single, system, root, paths)))
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


def _files(system: AbstractFileSystem, root: str) -> list[str]:
    if isinstance(system, LocalFileSystem):
        # fsspec would ask for the size of every file.
        folders = os.walk(root, onerror=_fail)
        return [f"{at}/{name}" for at, _, names in folders for name in names]
    return list(system.find(root))


def _fail(error: OSError) -> None:
    raise error


def read_files(pictures: Sequence[Picture]) -> list[bytes | str]:
    """The image files of pictures, of one storage in parallel; the reason for one without a file.

    Raises:
        OSError: The storage cannot be read.
    """
    files: list[bytes | str] = []
    remote: dict[AbstractFileSystem, dict[int, str]] = {}
    for index, picture in enumerate(pictures):
        file = picture.file
        if isinstance(file, bytes):
            files.append(file)
        elif isinstance(file.system, LocalFileSystem):
            files.append(_read_local(file.path))
        else:
            files.append("")
            remote.setdefault(file.system, {})[index] = file.path
    for system, paths in remote.items():
        # Unlike `cat`, it takes a path as it is: an asterisk in it is an asterisk.
        contents = system.cat_ranges(list(paths.values()), None, None)
        for index, content in zip(paths, contents, strict=True):
            failed = isinstance(content, Exception)
            files[index] = _reason(content, paths[index]) if failed else content
    return files


def _read_local(path: str) -> bytes | str:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return _reason(error, path)


def _reason(error: Exception, path: str) -> str:
    """What is wrong with one file; an error of the storage is raised."""
    for kind, text in _FILE_ERRORS.items():
        if isinstance(error, kind):
            return text.format(path)
    raise error


def _single(system: AbstractFileSystem | None, root: str, paths: list[str]) -> Iterator[Picture]:
    for path in paths:
        if system is None:
            yield Picture(_text(path), _locate(path))
        else:
            yield Picture(_relative(root, path), StoredFile(system, path))


def _shard(system: AbstractFileSystem, root: str, file: str) -> Iterator[Picture]:
    try:
        with system.open(file) as opened, tarfile.open(fileobj=opened, mode="r|") as shard:
            for member in shard:
                content = shard.extractfile(member)
                if content is not None and member.name.lower().endswith(PICTURE_SUFFIXES):
                    name = f"{_relative(root, file)}/{_text(member.name)}"
                    yield Picture(name, content.read())
    except tarfile.TarError as error:
        raise InputError(f"{file} is damaged: {error}") from error


def _rows(system: AbstractFileSystem, file: str, group: int) -> Iterator[Picture]:
    """Rows with `bytes` (or `image`, also as a structure of bytes and path), or with `path`."""
    with _parquet(system, file) as opened:
        table = opened.read_row_group(group).to_pylist()
    for number, row in enumerate(table):
        image = row.get("image")
        nested = image if isinstance(image, dict) else {"bytes": image}
        data = row.get("bytes") or nested.get("bytes")
        path = row.get("path") or nested.get("path") or f"{group}/{number}"
        yield Picture(path, data or _locate(path))


@contextlib.contextmanager
def _parquet(system: AbstractFileSystem, file: str) -> Iterator[pq.ParquetFile]:
    try:
        with system.open(file) as opened:
            yield pq.ParquetFile(opened)
    except pa.ArrowException as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from error


def _locate(path: str) -> StoredFile:
    """Where the file of a path or URL lies."""
    if "://" not in path:
        return StoredFile(_LOCAL, path)
    return StoredFile(*fsspec.core.url_to_fs(path))


def _relative(root: str, file: str) -> str:
    return _text(file.removeprefix(root).lstrip("/") or file.rpartition("/")[2])


def _text(name: str) -> str:
    """A name as UTF-8, which the names of files need not be."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
