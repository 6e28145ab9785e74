"""Errors of the service room: what can go wrong between a request and its answer.

The transport maps each to a status code in one place, so nothing below it knows of status codes.
Texts are for the client, except where a class says otherwise.

ServiceError
├── InvalidRequestError         a parameter, tensor or image that cannot be used
├── NotFoundError
│   ├── ModelNotFoundError      no model of that name
│   └── VersionNotFoundError    the model has no such version or label
├── UnavailableError            loading, draining or unloaded: try again later
├── QueueFullError              too many rows wait already: try again with a pause
├── DeadlineExceededError       no answer before the caller's deadline
├── CallerGoneError             the caller cancelled or hung up
├── UnauthenticatedError        credentials missing or not valid
├── PermissionDeniedError       valid credentials that do not allow this
├── UnsupportedError            a part of a protocol that the server does not have
└── InferenceFailedError        the engine failed; opaque text, the cause is chained
"""


class ServiceError(Exception):
    """Base of every error raised by this room."""


class InvalidRequestError(ServiceError):
    """A parameter, tensor or image of the request cannot be used."""


class NotFoundError(ServiceError):
    """What the request names is not here."""


class ModelNotFoundError(NotFoundError):
    """No model has this name."""


class VersionNotFoundError(NotFoundError):
    """The model has no version of this number or label."""


class UnavailableError(ServiceError):
    """The model is loading, draining or unloaded."""


class QueueFullError(ServiceError):
    """As many rows wait as may wait."""


class DeadlineExceededError(ServiceError):
    """The answer was not, or could not be, ready before the deadline."""


class CallerGoneError(ServiceError):
    """The caller cancelled the request or closed the connection."""


class UnauthenticatedError(ServiceError):
    """Credentials are missing or not valid."""


class PermissionDeniedError(ServiceError):
    """The credentials are valid and do not allow this."""


class UnsupportedError(ServiceError):
    """The request uses a part of a protocol that the server does not have."""


class InferenceFailedError(ServiceError):
    """The engine failed on a batch.

    The text is opaque, since it goes to the client. The engine's own exception is the `__cause__`,
    for the log.
    """
