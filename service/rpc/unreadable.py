"""Messages that cannot be parsed: the caller's fault, and refused like any other."""

from collections.abc import Callable, Iterator
from typing import Any

from convd.service.errors import InvalidRequestError


class Unreadable:
    """Stands for a message that cannot be parsed.

    gRPC answers an exception of a parser with INTERNAL and a traceback, before any of our code
    hears of the call.
    """


UNREADABLE = Unreadable()

CANNOT_BE_PARSED = "the message cannot be parsed: send a protobuf message of this method's type"


def tolerant(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A parser that gives an `Unreadable` where another raises."""
    if parse is None:
        return None

    def parse_or_note(data: bytes) -> Any:  # noqa: ANN401
        try:
            return parse(data)
        # Parsers of protobuf raise one class per implementation.
        except Exception:
            return UNREADABLE

    return parse_or_note


def check_readable(message: object) -> None:
    """Refuse a message that could not be parsed.

    Raises:
        InvalidRequestError: It could not.
    """
    if message is UNREADABLE:
        raise InvalidRequestError(CANNOT_BE_PARSED)


def readable(messages: Iterator[Any]) -> Iterator[Any]:
    """The messages of a stream, up to the first that cannot be parsed.

    Raises:
        InvalidRequestError: One could not be parsed.
    """
    for message in messages:
        check_readable(message)
        yield message
