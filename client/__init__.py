"""The Python client: pictures in, labelled probabilities out.

It needs grpcio and the stubs, and imports numpy and Pillow only for a caller who has their objects.
"""

from convd.client.async_client import AsyncClient
from convd.client.client import Client
from convd.client.connection import Connection, Tls
from convd.client.errors import (
    CannotConnectError,
    ClientError,
    DeadlineError,
    InvalidImageError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServerError,
    UnauthorizedError,
    UnavailableError,
)
from convd.client.images import ImageLike
from convd.client.results import Classification, ClassProbability, ModelDescription, ModelVersion

__all__ = [
    "AsyncClient",
    "CannotConnectError",
    "ClassProbability",
    "Classification",
    "Client",
    "ClientError",
    "Connection",
    "DeadlineError",
    "ImageLike",
    "InvalidImageError",
    "InvalidRequestError",
    "ModelDescription",
    "ModelVersion",
    "NotFoundError",
    "OverloadedError",
    "ServerError",
    "Tls",
    "UnauthorizedError",
    "UnavailableError",
]
