"""The bounds that fuzz targets keep to notice what breaks them."""

import mmap

import pytest

from tests.fuzz.bounds import NOISE_BYTES, AllocationError, check_text, memory_within


def test_memory_that_was_given_back_counts_too() -> None:
    def take() -> None:
        # Straight from the system: the allocator may have as much left from other tests.
        with mmap.mmap(-1, 4 * NOISE_BYTES) as memory:
            for page in range(0, len(memory), mmap.PAGESIZE):
                memory[page] = 1

    with memory_within(4 * NOISE_BYTES):
        take()
    with pytest.raises(AllocationError), memory_within(NOISE_BYTES):
        take()


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 5000, "\0"])
def test_a_text_that_cannot_be_shown_is_noticed(text: str) -> None:
    with pytest.raises(AssertionError):
        check_text(text)
