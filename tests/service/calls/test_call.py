import time

import pytest

from convd.service.calls.call import Call
from convd.service.errors import CallerGoneError, DeadlineExceededError


def test_a_call_is_wanted_until_it_ends() -> None:
    Call().check_wanted()
    Call(deadline=time.monotonic() + 60).check_wanted()
    with pytest.raises(DeadlineExceededError):
        Call(deadline=time.monotonic()).check_wanted()
    gone = Call()
    gone.cancel()
    with pytest.raises(CallerGoneError):
        gone.check_wanted()
