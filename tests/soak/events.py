"""What happens in a round besides load and hostile clients."""

import contextlib
import dataclasses
import os
import random
import re
import signal
import time
from collections.abc import Callable, Sequence

from testbed.server import ServerProcess, http_get
from tests.soak.callers import RECONNECT_SECONDS, Caller
from tests.soak.ledger import Death, counted_calls
from tests.soak.models import Models

SILENCE_SECONDS = 3.0
"""The server's --worker-silence-seconds."""

READY_SECONDS = 60.0
"""How long a server may take to be itself again."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """What the rounds are played on.

    Attributes:
        server: The server.
        models: Its repository.
        callers: They send valid requests.
        chance: Random numbers.
    """

    server: ServerProcess
    models: Models
    callers: Sequence[Caller]
    chance: random.Random


def _nothing_more(_stage: Stage, _seconds: float) -> list[Death]:
    return []


def _repository_taken_away(stage: Stage, seconds: float) -> list[Death]:
    time.sleep(seconds / 4)
    stage.models.take_away(seconds / 4)
    return []


def _disk_full(stage: Stage, seconds: float) -> list[Death]:
    for _ in range(3):
        time.sleep(seconds / 8)
        stage.models.fail_to_publish()
    return []


def _workers_killed(stage: Stage, seconds: float) -> list[Death]:
    deaths = []
    for _ in range(2):
        time.sleep(seconds / 6)
        deaths.append(_strike(stage, signal.SIGKILL, unnoticed_seconds=0.0))
    return deaths


def _worker_stopped(stage: Stage, seconds: float) -> list[Death]:
    time.sleep(seconds / 6)
    return [_strike(stage, signal.SIGSTOP, unnoticed_seconds=SILENCE_SECONDS)]


Event = Callable[[Stage, float], list[Death]]
"""Happens within some seconds of a round; returns which workers died."""

REPOSITORY_AWAY = "the repository is taken away"

EVENTS: dict[str, Event] = {
    "versions come and go": _nothing_more,
    REPOSITORY_AWAY: _repository_taken_away,
    "the disk is full while publishing": _disk_full,
    "workers are killed": _workers_killed,
    "a worker is stopped": _worker_stopped,
}


def _strike(stage: Stage, number: signal.Signals, *, unnoticed_seconds: float) -> Death:
    """Send a signal to a worker by chance; its counts are scraped just before."""
    before = _worker_pids(stage.server)
    worker = stage.chance.choice(list(before))
    reported_from = time.monotonic()
    counted_calls(stage.server)
    os.kill(before[worker], number)
    died_at = time.monotonic()
    until = died_at + unnoticed_seconds + READY_SECONDS
    while _worker_pids(stage.server)[worker] == before[worker]:
        assert time.monotonic() < until, f"worker {worker} was not replaced"
        time.sleep(0.05)
    wait_until_ready(stage.server)
    # A client may have tried to connect just before, and then pauses.
    return Death(reported_from, died_at, time.monotonic() + 2 * RECONNECT_SECONDS)


def _worker_pids(server: ServerProcess) -> dict[str, int]:
    """The process of each worker, as the supervisor logs it; the last one counts."""
    found = re.findall(r"worker (\d+) is process (\d+)", server.log.read_text())
    return {number: int(pid) for number, pid in found}


def wait_until_ready(server: ServerProcess) -> None:
    """Wait until every worker is ready."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if http_get(server.http_port, "/readyz")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not become ready again")
