import time

import grpc
import pytest

from service.call import Call
from service.errors import CallerGoneError
from service.rpc.interceptor import error_status


@pytest.mark.parametrize(
    ("deadline", "code"),
    [
        (None, grpc.StatusCode.CANCELLED),
        (time.monotonic() + 3600, grpc.StatusCode.CANCELLED),
        (time.monotonic() - 1, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_deadline_that_passed_is_not_counted_as_a_caller_who_hung_up(
    deadline: float | None, code: grpc.StatusCode
) -> None:
    assert error_status(CallerGoneError("gone"), Call(deadline=deadline)).code is code
