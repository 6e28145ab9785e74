"""One round of the soak: all callers and troubles for a while, one event, and the reckoning."""

import dataclasses
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from testbed.server import ServerProcess
from tests.soak.events import EVENTS, READY_SECONDS, REPOSITORY_AWAY, Stage, wait_until_ready
from tests.soak.ledger import Death, Key, Ledger, counted_calls
from tests.soak.models import FICKLE, HOSTILE, STEADY
from tests.soak.troubles import TROUBLES, make_trouble

_TURN_SECONDS = 4.0
_VISIT_TURNS = 3

_FAULTS = {"INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS", "FAILED_PRECONDITION", "ABORTED"}
"""Codes that the metrics must never show here."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round showed.

    Attributes:
        event: What happened besides the usual.
        counts: How many attempts of clients ended with each code.
        problems: What must not be.
    """

    event: str
    counts: Counter[Key]
    problems: list[str]


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
    wait_until_ready(stage.server)
    counted = _settled(stage.server)
    counted.subtract(before)
    problems += ledger.differences(counted, (STEADY, HOSTILE), deaths)
    problems += [
        f"counted: {count} {key}" for key, count in counted.items() if key[2] in _FAULTS and count
    ]
    fickle = sum(count for key, count in counted.items() if key[0] == FICKLE)
    if fickle > ledger.sent[FICKLE]:
        problems.append(f"{FICKLE}: {ledger.sent[FICKLE]} calls were sent, and {fickle} counted")
    for caller in stage.callers:
        problems += caller.problems
        caller.problems.clear()
    return Round(event, ledger.counts(), problems)


def _settled(server: ServerProcess) -> Counter[Key]:
    """The counts once they no longer change: calls that nobody waits for have ended too."""
    until = time.monotonic() + READY_SECONDS
    counted = counted_calls(server)
    while (again := counted_calls(server)) != counted:
        assert time.monotonic() < until, "calls are still counted, and nobody calls"
        counted = again
        time.sleep(0.5)
    return counted


def _change_versions(stage: Stage, stop: threading.Event, event: str) -> None:
    for turn in itertools.count():
        if stop.wait(_TURN_SECONDS):
            return
        stage.models.turn()
        if event != REPOSITORY_AWAY and turn % _VISIT_TURNS == 0:
            stage.models.visit()


def _guarded(work: Callable[[], None], problems: list[str]) -> None:
    """Note what went wrong in a thread, where it would be lost."""
    try:
        work()
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")
