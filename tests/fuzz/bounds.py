"""What every input must keep to, whatever it is: memory, and texts that can be shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"

NOISE_BYTES = 16 * 1024 * 1024
"""What the interpreter's and the allocator's own pools may take in between."""

MAX_TEXT_LENGTH = 1000


class AllocationError(AssertionError):
    """More memory was taken than had been reckoned."""


@contextmanager
def memory_within(bound_bytes: int) -> Iterator[None]:
    """Fail if the resident memory of this process ever rises by more, while in the context.

    Args:
        bound_bytes: What the work may take; `NOISE_BYTES` are allowed on top.
    """
    _CLEAR.write_text(_RESET_PEAK)
    before_bytes = _status_bytes("VmRSS")
    yield
    taken_bytes = _status_bytes("VmHWM") - before_bytes
    if taken_bytes > bound_bytes + NOISE_BYTES:
        raise AllocationError(f"{taken_bytes} bytes were taken, and {bound_bytes} were reckoned")


def check_text(text: str) -> None:
    """Fail if a text for people is empty, very long or holds what cannot be printed."""
    assert 0 < len(text) <= MAX_TEXT_LENGTH, text
    assert text.isprintable(), repr(text)


def _status_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
