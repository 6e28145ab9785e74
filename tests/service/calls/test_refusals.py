import logging
from pathlib import Path

import pytest

from convd.client import Client, InvalidImageError, NotFoundError
from convd.service.calls.call import Call
from convd.service.calls.refusals import RefusalLog
from tests.support import running_server


def call(code: str, refusal: str = "why") -> Call:
    made = Call(method="/m")
    made.code, made.refusal = code, refusal
    return made


def test_one_line_of_each_status_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = RefusalLog(clock=lambda: now)
    for _ in range(5):
        log.refused(call("NOT_FOUND"))
        log.refused(call("RESOURCE_EXHAUSTED", "1024 rows wait"))
        for quiet in ("CANCELLED", "INTERNAL", "UNAUTHENTICATED"):
            log.refused(call(quiet))
    assert [one.getMessage() for one in caplog.records] == [
        "refused /m with NOT_FOUND: why",
        "refused /m with RESOURCE_EXHAUSTED: 1024 rows wait",
    ]
    now = 10.0
    log.refused(call("NOT_FOUND", "again"))
    assert caplog.records[-1].getMessage() == (
        "refused /m with NOT_FOUND: again (4 others since the last such line)"
    )


def test_a_servers_refusals_are_logged_with_their_reason(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "convd.service.calls.refusals"),
        running_server(repository) as server,
        Client(f"127.0.0.1:{server.grpc_port}") as client,
    ):
        for _ in range(3):
            with pytest.raises(InvalidImageError):
                client.classify(b"no image", "digits")
            with pytest.raises(NotFoundError):
                client.classify(b"no image", "nobody")
    lines = [one.getMessage() for one in caplog.records if "refusals" in one.name]
    method = "/convd.v1.ClassificationService/Classify"
    assert len(lines) == 2
    assert lines[0].startswith(f"refused {method} for digits with INVALID_ARGUMENT: the bytes")
    assert lines[1].startswith(f"refused {method} with NOT_FOUND: there is no model nobody")
