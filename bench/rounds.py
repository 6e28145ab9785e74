"""Rounds of measurements, so that a machine that slows down does so for all that is compared."""

from collections.abc import Iterable
from typing import TypeVar

_Thing = TypeVar("_Thing")


def in_turn(things: Iterable[_Thing], number: int) -> list[_Thing]:
    """What is measured in one round, in order: in every second round the reverse one.

    Args:
        things: What is measured.
        number: The number of the round.
    """
    return list(things)[:: -1 if number % 2 else 1]
