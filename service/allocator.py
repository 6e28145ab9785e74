"""Has the C library give large blocks back to the system when they are freed.

glibc moves its threshold up to 32 MiB as large blocks are freed, and keeps what is below it in the
heap of whichever thread took it: after a few large pictures in many threads, hundreds of megabytes
stay resident that nothing uses.
"""

import ctypes

_MMAP_THRESHOLD = -3
_LARGE_BYTES = 4 * 1024 * 1024


def return_large_blocks() -> None:
    """Set a threshold that stays; without effect where the C library is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
