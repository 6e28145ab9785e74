"""Names of threads, for those who watch a machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_NAME = Path("/proc/thread-self/comm")


@contextlib.contextmanager
def thread_name(name: str) -> Iterator[None]:
    """Name the calling thread for a while; threads that are started meanwhile inherit the name.

    Args:
        name: At most 15 characters. Where the system has no such names, nothing happens.
    """
    try:
        former = _NAME.read_text(encoding="ascii")
        _NAME.write_text(name, encoding="ascii")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        _NAME.write_text(former, encoding="ascii")
