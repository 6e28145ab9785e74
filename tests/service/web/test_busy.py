"""HTTP under load: what is busy delays nothing else, who hangs up is dropped, a drain answers."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convd.service.settings import ServerSettings
from convd.service.web.connections import MAX_CONNECTIONS, SPARE_CONNECTIONS
from convd.service.web.lanes import Lane
from tests.service.protocols.open_inference.requests import png
from tests.support import Client, http_request, running_server, wait_until
from tests.tiny_artifact import publish_tiny

CLASSIFY = "/v1/classify/pets"
THREADS = 2
BATCH = 8


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Client]:
    """A server on which a request waits for others that never come."""
    publish_tiny(tmp_path)
    with running_server(
        tmp_path,
        max_batch_size=BATCH,
        max_queue_delay_seconds=60.0,
        http_threads=THREADS,
        drain_seconds=60.0,
    ) as client:
        yield client


def metric(client: Client, name: str) -> float:
    _, text = client.get(f"/metrics?name[]={name}")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def post(client: Client) -> socket.socket:
    """Ask, and do not wait for the answer."""
    connection = socket.create_connection(("127.0.0.1", client.http_port), timeout=30)
    picture = png()
    head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n"
    connection.sendall(head.encode() + picture)
    return connection


def test_a_client_that_hangs_up_leaves_the_queue(waiting: Client) -> None:
    connection = post(waiting)
    wait_until(lambda: metric(waiting, "convd_queue_rows") == 1)
    connection.close()
    wait_until(lambda: metric(waiting, "convd_queue_rows") == 0)
    wait_until(lambda: 'code="CANCELLED"' in waiting.get("/metrics")[1])


def test_while_all_threads_for_inference_are_taken_everything_else_answers(
    waiting: Client,
) -> None:
    opened = [post(waiting) for _ in range(THREADS)]
    wait_until(lambda: metric(waiting, "convd_queue_rows") == THREADS)
    opened += [post(waiting) for _ in range(Lane.INFERENCE.value.waiting)]
    status, body = 0, b""
    headers: dict[str, str] = {}

    def is_full() -> bool:
        nonlocal status, headers, body
        status, headers, body = http_request(
            waiting.http_port, "POST", CLASSIFY + "?timeout_seconds=1", png()
        )
        return status == 429

    wait_until(is_full)
    assert headers["Retry-After"] == "1"
    assert json.loads(body)["code"] == "RESOURCE_EXHAUSTED"
    for path in ("/livez", "/readyz", "/v2/health/ready", "/metrics", "/api/models", "/v2"):
        assert waiting.get(path)[0] == 200
    # gRPC has threads of its own: its rows join the ones that wait, and fill the batch.
    rest = BATCH - THREADS
    with ThreadPoolExecutor(rest) as pool:
        answers = list(pool.map(lambda _: waiting.classify(png(), model="pets"), range(rest)))
    assert all(answer.results for answer in answers)
    for connection in opened:
        connection.close()


def test_the_lanes_leave_room_for_probes() -> None:
    most_threads = ServerSettings.model_json_schema()["properties"]["http_threads"]["maximum"]
    total = sum((one.value.threads or most_threads) + one.value.waiting for one in Lane)
    assert total < MAX_CONNECTIONS - SPARE_CONNECTIONS


def test_a_drain_answers_what_was_accepted_and_refuses_what_comes(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    answers: list[int] = []

    def load(port: int) -> None:
        while not answers or answers[-1] == 200:
            try:
                answers.append(http_request(port, "POST", CLASSIFY, png())[0])
            except ConnectionError:
                return

    with running_server(tmp_path) as client:
        threads = [threading.Thread(target=load, args=(client.http_port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 20)
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 503}
