"""Has the C library give large blocks back to the system when they are freed.

glibc moves its threshold up to 32 MiB as large blocks are freed, and keeps what is below it in the
heap of whichever thread took it: after a few large pictures in many threads, hundreds of megabytes
stay resident that nothing uses. With a threshold that stays, it would also give back the end of a
heap after every picture and take it again for the next one, page by page, which costs a JPEG of
640 x 427 nearly as much as to decode it.
"""

import ctypes

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_LARGE_BYTES = 4 * 1024 * 1024
_KEPT_BYTES = 3 * 1024 * 1024
_HEAPS = 4
"""Threads share so many heaps; by default there may be eight for each core. Python's threads take
turns, and what allocates outside of its lock is a few pictures at a time."""


def return_large_blocks() -> None:
    """Set thresholds that stay; without effect where the C library is another one.

    A few mebibytes are kept at the end of each heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_ARENA_MAX, _HEAPS)
