"""Names of threads, as tools such as `top -H` show them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_NAME = Path("/proc/thread-self/comm")


@contextlib.contextmanager
def thread_name(name: str) -> Iterator[None]:
    """Name the calling thread inside the context; threads started there inherit the name.

    Args:
        name: At most 15 characters. Has no effect on systems without thread names.
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
