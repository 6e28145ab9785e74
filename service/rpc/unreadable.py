"""Messages that are missing or cannot be parsed: the caller's fault, refused like any other."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from convd.service.errors import InvalidRequestError


class Unreadable:
    """Stands for a message that cannot be parsed.

    gRPC answers an exception of a parser with INTERNAL and a traceback, before any of our code
    hears of the call.
    """


UNREADABLE = Unreadable()

NO_MESSAGE = "the call has no message: send one"
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


def only_message(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: ANN401
    """The one message of a call that is taken as a stream; a call without one is ended."""
    message = next(messages, None)
    if message is None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, NO_MESSAGE)
    return message


def readable(messages: Iterator[Any]) -> Iterator[Any]:
    """The messages of a stream, up to the first that cannot be parsed.

    Raises:
        InvalidRequestError: One could not be parsed.
    """
    for message in messages:
        check_readable(message)
        yield message
