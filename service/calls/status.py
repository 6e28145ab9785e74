"""The one table from domain errors to gRPC status codes."""

import logging
from dataclasses import dataclass

import grpc

from convd.service.calls.call import Call
from convd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    InvalidRequestError,
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

STATUS_CODES: dict[type[ServiceError], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    VersionNotFoundError: grpc.StatusCode.NOT_FOUND,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    QueueFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    CallerGoneError: grpc.StatusCode.CANCELLED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    InferenceFailedError: grpc.StatusCode.INTERNAL,
}


@dataclass(frozen=True)
class Status:
    """A gRPC status: its code and the text for the client."""

    code: grpc.StatusCode
    message: str

    @property
    def number(self) -> int:
        """The code as it travels, such as 3 for INVALID_ARGUMENT."""
        return int(self.code.value[0])


def status_of(error: Exception, request_id: str) -> Status:
    """Map an error to what the client is told.

    The text of an unexpected error stays inside: the client gets the request id, under which the
    log has the cause.

    Args:
        error: What was raised.
        request_id: Id of the request.
    """
    code = _code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        return Status(code, f"internal error; the server's log has it as request {request_id}")
    return Status(code, str(error))


def error_status(error: Exception, call: Call) -> Status:
    """Map an error to what the client is told, and log what it is not told."""
    # gRPC tells of a deadline that passes as of a caller who goes away.
    if isinstance(error, CallerGoneError) and call.is_late():
        error = DeadlineExceededError("the deadline passed before the answer")
    status = status_of(error, call.identify())
    if status.code is grpc.StatusCode.INTERNAL:
        logger.error("request %s to %s failed", call.request_id, call.method, exc_info=error)
    return status


def _code_of(error: Exception) -> grpc.StatusCode:
    if isinstance(error, ServiceError):
        return STATUS_CODES[type(error)]
    return grpc.StatusCode.INTERNAL
