"""The response cache: a picture that a version has already classified is not run again."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RowAnswer = tuple[NDArray[np.float32], ...]
"""The outputs of one row, float32 `[classes]` each."""

_ENTRY_OVERHEAD_BYTES = 400
"""Memory that an entry takes besides the numbers: key, tuple, array headers, table slot."""


class ResponseCache:
    """Answers by servable and content, with the least recently used evicted first.

    Args:
        max_bytes: Maximum memory for the answers.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[object, bytes], RowAnswer] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Memory in use."""
        return self._size_bytes

    def look_up(self, owner: object, keys: Sequence[bytes]) -> list[RowAnswer | None]:
        """Return the cached answers in the order of the keys, with None for the others.

        Args:
            owner: The servable; a reloaded version is a different owner.
            keys: One `content_key` for each row.
        """
        found = []
        with self._lock:
            for key in keys:
                answer = self._answers.get((owner, key))
                if answer is not None:
                    self._answers.move_to_end((owner, key))
                found.append(answer)
        return found

    def store(self, owner: object, key: bytes, answer: RowAnswer) -> None:
        """Cache the answer to one row."""
        # A view would keep the outputs of the whole batch in memory.
        answer = tuple(output.copy() for output in answer)
        size_bytes = _size_bytes(answer)
        if size_bytes > self._max_bytes:
            return
        with self._lock:
            if (owner, key) in self._answers:
                return
            self._answers[owner, key] = answer
            self._size_bytes += size_bytes
            while self._size_bytes > self._max_bytes:
                _, dropped = self._answers.popitem(last=False)
                self._size_bytes -= _size_bytes(dropped)

    def forget(self, owner: object) -> None:
        """Drop every answer of an unloaded servable."""
        with self._lock:
            for key in [key for key in self._answers if key[0] == owner]:
                self._size_bytes -= _size_bytes(self._answers.pop(key))


def content_key(image: NDArray[np.uint8]) -> bytes:
    """Hash the content of one prepared image; no two pictures share a hash in practice.

    Args:
        image: uint8 `[height, width, channels]`.
    """
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=20).digest()


def _size_bytes(answer: RowAnswer) -> int:
    return sum(output.nbytes for output in answer) + _ENTRY_OVERHEAD_BYTES
