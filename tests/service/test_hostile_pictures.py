"""Pictures made to cost much: memory stays within its budget, and others are answered meanwhile."""

import concurrent.futures
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.service.termination import CALLS_CUT
from testbed.server import ServerProcess, server_process
from tests.artifact.formats.pictures import (
    drawn,
    encoded,
    jpeg_with_scans,
    png_of_rows,
    run_length_bmp,
    webp_header,
)
from tests.support import wait_until
from tests.tiny_artifact import publish_tiny

pytestmark = pytest.mark.slow

BUDGET_BYTES = 256 * 1024 * 1024
SLACK_BYTES = 300 * 1024 * 1024

PHOTO = encoded(drawn(640, 427), "JPEG")
LARGE = encoded(drawn(4000, 4000), "JPEG", quality=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    publish_tiny(folder / "repository")
    flags = ("--decode-budget-bytes", BUDGET_BYTES, "--drain-seconds", 3)
    with server_process(folder / "repository", folder / "log", *flags) as server:
        yield server


def classify(server: ServerProcess, *images: bytes, seconds: float = 60.0) -> grpc.StatusCode:
    """Status of a request on a connection of its own."""
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="pets"), images=[pb.Image(encoded=image) for image in images]
    )
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        try:
            ClassificationServiceStub(channel).Classify(request, timeout=seconds)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


HOSTILE = {
    "cut JPEG": LARGE[: len(LARGE) // 2],
    "large JPEG": LARGE,
    "large progressive JPEG": encoded(drawn(4000, 4000), "JPEG", quality=30, progressive=True),
    "tall PNG": png_of_rows(drawn(1, 2), 1)[:16]
    + b"\0\0\0\1\3\xfd\x3f\xc0"
    + png_of_rows(drawn(1, 2), 1)[24:],
    "WebP of 38 bytes": webp_header(16_383, 16_383),
    "run-length BMP": run_length_bmp(8000, 8000, b"\0\0" * 500),
    "JPEG of 90 scans": jpeg_with_scans(80, 900, 900),
    "black PNG": encoded(drawn(4000, 4000).point(lambda _: 0), "PNG"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_memory_stays_within_the_budget_and_others_are_answered(
    server: ServerProcess, what: str
) -> None:
    classify(server, PHOTO)
    idle_bytes = server.resident_bytes()
    most_bytes = 0
    with concurrent.futures.ThreadPoolExecutor(24) as callers:
        calls = [callers.submit(classify, server, HOSTILE[what]) for _ in range(40)]
        while not all(call.done() for call in calls):
            assert classify(server, PHOTO, seconds=10.0) is grpc.StatusCode.OK
            most_bytes = max(most_bytes, server.resident_bytes())
    answers = {call.result() for call in calls}
    expected = {"large JPEG", "large progressive JPEG", "JPEG of 90 scans", "black PNG"}
    good = grpc.StatusCode.OK if what in expected else grpc.StatusCode.INVALID_ARGUMENT
    assert answers <= {good, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert most_bytes <= idle_bytes + BUDGET_BYTES + SLACK_BYTES


def test_what_was_refused_is_not_kept(server: ServerProcess) -> None:
    classify(server, LARGE[: len(LARGE) // 2])
    before = server.resident_bytes()
    for _ in range(60):
        assert classify(server, LARGE[: len(LARGE) // 2]) is grpc.StatusCode.INVALID_ARGUMENT
    assert server.resident_bytes() <= before + 50 * 1024 * 1024


def test_a_cancelled_decoding_frees_its_thread_and_a_signal_ends_all(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "repository")
    dear = [encoded(drawn(4000, 4000), "JPEG", progressive=True)] * 24
    flags = ("--drain-seconds", 2, "--unary-threads", 2)
    with server_process(tmp_path / "repository", tmp_path / "log", *flags) as server:
        with concurrent.futures.ThreadPoolExecutor(2) as callers:
            calls = [callers.submit(classify, server, *dear, seconds=1.0) for _ in range(2)]
            assert {call.result() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        process = psutil.Process(server.pid)

        def is_idle() -> bool:
            return process.cpu_percent(0.2) < 20

        wait_until(is_idle, timeout_seconds=5.0)
        assert classify(server, PHOTO) is grpc.StatusCode.OK
        with concurrent.futures.ThreadPoolExecutor(2) as callers:
            calls = [callers.submit(classify, server, *dear) for _ in range(2)]
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=2 + 10) in (0, CALLS_CUT)
            for call in calls:
                call.result()
