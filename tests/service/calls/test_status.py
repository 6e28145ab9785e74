from collections.abc import Iterator

import grpc
import pytest

from convd.service.calls.status import STATUSES, status_of
from convd.service.errors import InferenceFailedError, InvalidRequestError, ServiceError


def all_errors(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    for error in root.__subclasses__():
        yield error
        yield from all_errors(error)


@pytest.mark.parametrize("error", list(all_errors()), ids=lambda error: error.__name__)
def test_every_domain_error_has_a_row(error: type[ServiceError]) -> None:
    assert error in STATUSES


def test_texts_for_the_client_travel() -> None:
    status = status_of(InvalidRequestError("top_k is -1"), "id")
    assert (status.code, status.message) == (grpc.StatusCode.INVALID_ARGUMENT, "top_k is -1")
    assert (status.number, status.http) == (3, 400)


@pytest.mark.parametrize("error", [InferenceFailedError("secret"), ValueError("secret")])
def test_texts_of_internal_errors_stay_inside(error: Exception) -> None:
    status = status_of(error, "4711")
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.http == 500
    assert "secret" not in status.message
    assert "4711" in status.message
