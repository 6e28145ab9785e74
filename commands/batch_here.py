"""`convd batch` on the cores of this machine."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import TypeVar

import pyarrow as pa

from convd.commands.batch_inputs import InputError, Part, Picture, read_files
from convd.commands.batch_rows import BatchClassifier
from convd.runtime.cores import available_cores
from convd.service.allocator import return_large_blocks
from convd.service.garbage import collect_and_freeze, collect_rarely

SPARE_READERS = 1

_Item = TypeVar("_Item")


def rows_here(
    parts: dict[Path, Part], classify: BatchClassifier, threads: int
) -> Iterator[tuple[Path, pa.Table | None]]:
    """Classify parts in threads of this process, one part after another.

    Args:
        parts: The parts by the file that each becomes.
        classify: Classifies a batch.
        threads: Batches that are read or computed at a time; 0 for one more than there are cores.

    Yields:
        The rows of each batch of a part, in order, and None behind the last one.

    Raises:
        InputError: A part cannot be read; what was read before it is there.
        OSError: The storage of the pictures cannot be read.
        ClientError: The network cannot be run.
    """
    readers = threads or available_cores() + SPARE_READERS
    cores = Semaphore(available_cores())
    # As in a server: large pictures would be paged in anew, each of them, and the collector would
    # stop all threads to look at the model and its libraries again and again.
    return_large_blocks()
    collect_rarely()
    collect_and_freeze()

    def rows(pictures: list[Picture]) -> pa.Table:
        files = read_files(pictures)
        # Threads beyond the cores read ahead: more that compute would only take turns.
        with cores:
            return classify([picture.path for picture in pictures], files)

    with ThreadPoolExecutor(readers) as pool:
        for target, table in _ahead(_submitted(parts, rows, pool), readers + 1):
            yield target, None if table is None else table.result()


def _submitted(
    parts: dict[Path, Part], rows: Callable[[list[Picture]], pa.Table], pool: ThreadPoolExecutor
) -> Iterator[tuple[Path, Future[pa.Table] | None]]:
    """Each batch of each part as it is submitted, and None behind the last one of a part."""
    for target, part in parts.items():
        for batch in part.batches():
            yield target, pool.submit(rows, batch)
        yield target, None


def _ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """The items, each taken when `count` others have been; all that there are before an error."""
    taken: deque[_Item] = deque()
    try:
        for item in items:
            taken.append(item)
            if len(taken) > count:
                yield taken.popleft()
    except InputError:
        yield from taken
        raise
    yield from taken
