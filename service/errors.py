"""Errors of the service: what can go wrong between a request and its answer.

`calls/status.py` maps each to its gRPC and HTTP status; no other code below the transports knows
status codes. Texts are for the client, unless a class says otherwise.

ServiceError
├── InvalidRequestError         a parameter, tensor or image that is not acceptable
├── NotFoundError
│   ├── ModelNotFoundError      no model of that name
│   └── VersionNotFoundError    the model has no such version or label
├── UnavailableError            loading, draining or unloaded: try again later
├── QueueFullError              too much is waiting already: back off and try again
├── LimitExceededError          the caller has used up its own limit: try again later
├── DeadlineExceededError       no answer before the caller's deadline
├── CallerGoneError             the caller cancelled or hung up
├── UnauthenticatedError        credentials are missing or invalid
├── PermissionDeniedError       the caller is not allowed to do this
├── UnsupportedError            a part of a protocol that the server does not implement
└── InferenceFailedError        the engine failed; opaque text, the cause is chained
"""


class ServiceError(Exception):
    """Base of all errors of the service."""


class InvalidRequestError(ServiceError):
    """A parameter, tensor or image of the request is not acceptable."""


class NotFoundError(ServiceError):
    """The request names something that does not exist."""


class ModelNotFoundError(NotFoundError):
    """No model has this name."""


class VersionNotFoundError(NotFoundError):
    """The model has no version of this number or label."""


class UnavailableError(ServiceError):
    """The model is loading, draining or unloaded."""


class QueueFullError(ServiceError):
    """A queue or a limit of concurrent work is full."""


class LimitExceededError(ServiceError):
    """The caller has used up one of its own limits.

    Args:
        text: The text for the client.
        retry_after_seconds: When to try again; None if the same request will never be let in.
    """

    def __init__(self, text: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceededError(ServiceError):
    """The answer was not, or could not be, ready before the deadline."""


class CallerGoneError(ServiceError):
    """The caller cancelled the request or closed the connection."""


class UnauthenticatedError(ServiceError):
    """Credentials are missing or invalid."""


class PermissionDeniedError(ServiceError):
    """The caller is not allowed to do this."""


class UnsupportedError(ServiceError):
    """The request uses a part of a protocol that the server does not implement."""


class InferenceFailedError(ServiceError):
    """The engine failed on a batch.

    The client gets an opaque text; the engine's exception is the `__cause__`, for the log.
    """
