"""One round of the soak: all callers and troubles for a while, one event, and the reckoning."""

import contextlib
import dataclasses
import itertools
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from testbed.server import ServerProcess, http_get
from tests.soak.callers import RECONNECT_SECONDS, Caller
from tests.soak.ledger import Death, Key, Ledger, counted_calls
from tests.soak.models import FICKLE, HOSTILE, STEADY, Models
from tests.soak.troubles import TROUBLES, make_trouble

SILENCE_SECONDS = 3.0
"""The server's --worker-silence-seconds."""

_READY_SECONDS = 60.0
_TURN_SECONDS = 4.0
_VISIT_TURNS = 3

FAULTS = {"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS", "FAILED_PRECONDITION", "ABORTED"}
"""Codes that the metrics must never show here."""


@dataclasses.dataclass
class Round:
    """What one round showed.

    Attributes:
        event: What happened besides the usual.
        ledger: What the clients saw.
        deaths: Workers that were killed or stopped.
        problems: What must not be.
    """

    event: str
    ledger: Ledger
    deaths: list[Death]
    problems: list[str]


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

EVENTS: dict[str, Event] = {
    "versions come and go": _nothing_more,
    "the repository is taken away": _repository_taken_away,
    "the disk is full while publishing": _disk_full,
    "workers are killed": _workers_killed,
    "a worker is stopped": _worker_stopped,
}


def play(stage: Stage, event: str, seconds: float, interval_seconds: float) -> Round:
    """Play one round.

    Args:
        stage: What it is played on.
        event: One of `EVENTS`.
        seconds: How long.
        interval_seconds: Time between two requests of one caller.
    """
    ledger, stop = Ledger(), threading.Event()
    deaths: list[Death] = []
    problems: list[str] = []
    before = counted_calls(stage.server)
    port = stage.server.grpc_port
    clients = [partial(caller.run, ledger, stop, interval_seconds) for caller in stage.callers] + [
        partial(make_trouble, trouble, port, ledger, stop, random.Random(stage.chance.random()))
        for trouble in TROUBLES
    ]
    threads = [threading.Thread(target=_guarded, args=(client, problems)) for client in clients]

    def happening() -> None:
        deaths.extend(EVENTS[event](stage, seconds))

    changing = partial(_change_versions, stage, stop, event)
    threads += [
        threading.Thread(target=_guarded, args=(work, problems)) for work in (happening, changing)
    ]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    threads[-2].join()
    stop.set()
    for thread in threads:
        thread.join()
    _wait_until_ready(stage.server)
    counted = _settled(stage.server)
    counted.subtract(before)
    problems += ledger.differences(counted, (STEADY, HOSTILE), deaths)
    problems += [
        f"counted: {count} {key}" for key, count in counted.items() if key[2] in FAULTS and count
    ]
    fickle = sum(count for key, count in counted.items() if key[0] == FICKLE)
    if fickle > ledger.sent[FICKLE]:
        problems.append(f"{FICKLE}: {ledger.sent[FICKLE]} calls were sent, and {fickle} counted")
    for caller in stage.callers:
        problems += caller.problems
        caller.problems.clear()
    return Round(event, ledger, deaths, problems)


def _settled(server: ServerProcess) -> Counter[Key]:
    """The counts once they no longer change: calls that nobody waits for have ended too."""
    until = time.monotonic() + _READY_SECONDS
    counted = counted_calls(server)
    while (again := counted_calls(server)) != counted:
        assert time.monotonic() < until, "calls are still counted, and nobody calls"
        counted = again
        time.sleep(0.5)
    return counted


def _change_versions(stage: Stage, stop: threading.Event, event: str) -> None:
    away = EVENTS[event] is _repository_taken_away
    for turn in itertools.count():
        if stop.wait(_TURN_SECONDS):
            return
        stage.models.turn()
        if not away and turn % _VISIT_TURNS == 0:
            stage.models.visit()


def _strike(stage: Stage, number: signal.Signals, *, unnoticed_seconds: float) -> Death:
    """Send a signal to a worker by chance; its counts are scraped just before."""
    before = worker_pids(stage.server)
    worker = stage.chance.choice(list(before))
    reported_from = time.monotonic()
    counted_calls(stage.server)
    os.kill(before[worker], number)
    died_at = time.monotonic()
    until = died_at + unnoticed_seconds + _READY_SECONDS
    while worker_pids(stage.server)[worker] == before[worker]:
        assert time.monotonic() < until, f"worker {worker} was not replaced"
        time.sleep(0.05)
    _wait_until_ready(stage.server)
    # A client may have tried to connect just before, and then pauses.
    return Death(reported_from, died_at, time.monotonic() + 2 * RECONNECT_SECONDS)


def worker_pids(server: ServerProcess) -> dict[str, int]:
    """The process of each worker, as the supervisor logs it; the last one counts."""
    found = re.findall(r"worker (\d+) is process (\d+)", server.log.read_text())
    return {number: int(pid) for number, pid in found}


def _wait_until_ready(server: ServerProcess) -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if http_get(server.http_port, "/readyz")[0] == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not become ready again")


def _guarded(work: Callable[[], None], problems: list[str]) -> None:
    """Note what went wrong in a thread, where it would be lost."""
    try:
        work()
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")
