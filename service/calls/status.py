"""The one table from domain errors to gRPC and HTTP statuses."""

import logging
from http import HTTPStatus
from typing import NamedTuple

from grpc import StatusCode

from convd.service.calls.call import Call
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    InvalidRequestError,
    LimitExceededError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    QueueFullError,
    ServiceError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    VersionNotFoundError,
)

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
"""The status that nginx and the Google APIs use; only logs ever show it."""

STATUSES: dict[type[ServiceError], tuple[StatusCode, int]] = {
    InvalidRequestError: (StatusCode.INVALID_ARGUMENT, HTTPStatus.BAD_REQUEST),
    NotFoundError: (StatusCode.NOT_FOUND, HTTPStatus.NOT_FOUND),
    ModelNotFoundError: (StatusCode.NOT_FOUND, HTTPStatus.NOT_FOUND),
    VersionNotFoundError: (StatusCode.NOT_FOUND, HTTPStatus.NOT_FOUND),
    UnavailableError: (StatusCode.UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE),
    QueueFullError: (StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS),
    LimitExceededError: (StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS),
    DeadlineExceededError: (StatusCode.DEADLINE_EXCEEDED, HTTPStatus.GATEWAY_TIMEOUT),
    CallerGoneError: (StatusCode.CANCELLED, CLIENT_CLOSED_REQUEST),
    UnauthenticatedError: (StatusCode.UNAUTHENTICATED, HTTPStatus.UNAUTHORIZED),
    PermissionDeniedError: (StatusCode.PERMISSION_DENIED, HTTPStatus.FORBIDDEN),
    UnsupportedError: (StatusCode.UNIMPLEMENTED, HTTPStatus.NOT_IMPLEMENTED),
    InferenceFailedError: (StatusCode.INTERNAL, HTTPStatus.INTERNAL_SERVER_ERROR),
}

_INTERNAL = STATUSES[InferenceFailedError]


class Status(NamedTuple):
    """The status that a failed call ends with.

    Attributes:
        code: The gRPC status code.
        http: The HTTP status.
        message: The text for the client.
    """

    code: StatusCode
    http: int
    message: str

    @property
    def number(self) -> int:
        """The gRPC code as it travels, such as 3 for INVALID_ARGUMENT."""
        return int(self.code.value[0])


def status_of(error: Exception, request_id: str) -> Status:
    """Map an error to the status for the client.

    The text of an unexpected error is withheld. The client gets the request id instead, under which
    the log has the cause.

    Args:
        error: What was raised.
        request_id: Id of the request.
    """
    code, http = STATUSES[type(error)] if isinstance(error, ServiceError) else _INTERNAL
    if code is StatusCode.INTERNAL:
        return Status(
            code, http, f"internal error; the server's log has it as request {request_id}"
        )
    return Status(code, http, str(error))


def error_status(error: Exception, call: Call) -> Status:
    """Map an error to the status for the client, and log what is withheld from the client."""
    # gRPC reports an expired deadline as a cancellation.
    if isinstance(error, CallerGoneError) and call.is_late():
        error = DeadlineExceededError("the deadline passed before the answer")
    status = status_of(error, call.identify())
    call.refusal = status.message
    if status.code is StatusCode.INTERNAL:
        logger.error("request %s to %s failed", call.request_id, call.method, exc_info=error)
    return status
