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
_LARGE_BYTES = 4 * 1024 * 1024


def return_large_blocks() -> None:
    """Set thresholds that stay; without effect where the C library is another one.

    Less than a large block is kept at the end of each thread's heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
