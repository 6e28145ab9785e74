"""`make explain-load`: what explanations cost those who ask for answers meanwhile.

An open loop of requests runs in rounds, in turn with and without callers of `Explain`. Writes
docs/drills/explain.md.
"""

import contextlib
import io
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Self

import numpy as np

from bench.command_line import server
from bench.document import table, write_document
from bench.machine import machine
from bench.zoo_training import INPUT_SIZE, REPOSITORY, RUN, train_and_publish
from convd.client.client import Client
from convd.client.connection import Connection
from convd.client.errors import DeadlineError, OverloadedError
from convd.client.explanation import Method
from convd.commands.load_generator import OK, Workload, random_requests, run_workload
from convd.models.data.drawn import draw

DOCUMENT = Path("docs/drills/explain.md")

MODEL = "resnet18"
EXPLAINERS = 2
EXPLAINED_SIZE = (640, 480)
EXPLANATION_SECONDS = 3.0
PAUSE_SECONDS = 0.05
PAIRS = 6
MOST = 1.05


@dataclass(frozen=True)
class Load:
    """What is asked in one row of the table.

    Attributes:
        name: What it is called.
        method: How answers are explained meanwhile.
        rate: Requests per second.
        seconds: How long a round takes.
    """

    name: str
    method: Method
    rate: float
    seconds: float


LOADS = (
    # Between two requests there is time for occlusion, and nearly every request interrupts it.
    Load("few requests", "occlusion", 12, 9.0),
    Load("many requests", "occlusion", 100, 4.0),
    Load("many requests", "class-activation", 100, 4.0),
)


@dataclass
class Outcome:
    """What requests took, in seconds, and how many explanations were made meanwhile."""

    without: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    explanations: int = 0

    def ratio(self, percent: float) -> float:
        """How much longer a percentile is while answers are explained."""
        with_, without = (np.percentile(each, percent) for each in (self.during, self.without))
        return float(with_ / without)


def main() -> None:
    """Measure all loads, write the document; exit 1 if a bound is missed."""
    where = machine()
    train_and_publish([MODEL])
    with server(REPOSITORY, RUN / "explain.log", "--provider", "cpu") as running:
        outcomes = [_measure(load, running.address) for load in LOADS]
    _write(outcomes, where)
    missed = [load.name for load, one in zip(LOADS, outcomes, strict=True) if one.ratio(99) > MOST]
    if missed:
        raise SystemExit(f"p99 more than {MOST:.2f} times as long: {', '.join(missed)}")


def _measure(load: Load, address: str) -> Outcome:
    found = Outcome()
    workload = Workload(
        connection=Connection(address),
        requests=random_requests(MODEL, (INPUT_SIZE, INPUT_SIZE, 3), rows=[1] * 8),
        seconds=load.seconds,
        rate=load.rate,
    )
    with Explainers(address, load.method) as explainers:
        _seconds(workload)
        for pair in range(PAIRS):
            # In turn, so that a machine that gets slower or faster favours neither.
            for explained in (False, True) if pair % 2 else (True, False):
                if explained:
                    with explainers.at_work():
                        found.during += _seconds(workload)
                else:
                    found.without += _seconds(workload)
        found.explanations = explainers.made
    return found


def _seconds(workload: Workload) -> list[float]:
    samples = run_workload(workload)
    failed = {sample.code for sample in samples} - {OK}
    if failed:
        raise SystemExit(f"requests ended with {', '.join(failed)}")
    return [sample.seconds for sample in samples]


class Explainers:
    """Callers of `Explain`, each in a process of its own, one explanation after another.

    Args:
        address: The server.
        method: How they have answers explained.
    """

    def __init__(self, address: str, method: Method) -> None:
        context = multiprocessing.get_context("spawn")
        self._go, self._end = context.Event(), context.Event()
        self._idle, self._made = context.Semaphore(0), context.Semaphore(0)
        self._counted = 0
        self._processes = [
            context.Process(
                target=_explain,
                args=(address, method, seed, self._go, self._end, self._idle, self._made),
            )
            for seed in range(EXPLAINERS)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        self._await_idle()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._go.set()
        for process in self._processes:
            process.join()

    @property
    def made(self) -> int:
        """How many explanations they have got."""
        while self._made.acquire(block=False):
            self._counted += 1
        return self._counted

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """They ask inside the block; after it, their last explanations have ended."""
        self._go.set()
        yield
        self._go.clear()
        self._await_idle()

    def _await_idle(self) -> None:
        for _ in self._processes:
            self._idle.acquire()


def _explain(
    address: str,
    method: Method,
    seed: int,
    go: Event,
    end: Event,
    idle: Semaphore,
    made: Semaphore,
) -> None:
    file = io.BytesIO()
    draw("dog", (seed, 0), size=EXPLAINED_SIZE).picture.save(file, "JPEG")
    with Client(address, timeout_seconds=EXPLANATION_SECONDS) as client:
        client.models()
        while not end.is_set():
            idle.release()
            go.wait()
            while go.is_set() and not end.is_set():
                try:
                    client.explain(file.getvalue(), MODEL, method=method)
                    made.release()
                # Under load an explanation by occlusion may not come to its end.
                except DeadlineError:
                    pass
                # The server may still be ending the one before.
                except OverloadedError:
                    time.sleep(PAUSE_SECONDS)


def _write(outcomes: list[Outcome], where: str) -> None:
    rows = []
    for load, found in zip(LOADS, outcomes, strict=True):
        times = [
            f"{1e3 * np.percentile(each, percent):.2f}"
            for percent in (50, 99)
            for each in (found.without, found.during)
        ]
        requests = f"{load.rate:g} per second"
        row = (requests, load.method, len(found.during), *times, f"{found.ratio(99):.3f}")
        rows.append((*row, found.explanations))
    headings = (
        *("Requests", "Explained by", "Requests measured", "p50 ms without", "p50 ms with"),
        *("p99 ms without", "p99 ms with", "p99, with by without", "Explanations"),
    )
    write_document(
        DOCUMENT,
        "What explanations cost those who ask for answers",
        where,
        f"The zoo's ResNet-18 at {INPUT_SIZE} x {INPUT_SIZE}. An open loop asks it over gRPC, and "
        f"{EXPLAINERS} other callers have pictures of {EXPLAINED_SIZE[0]} x {EXPLAINED_SIZE[1]} "
        f"explained, each {EXPLANATION_SECONDS:g} s at most. {PAIRS} rounds with them and {PAIRS} "
        "without take turns. Server and callers share the cores. `make explain-load` writes this "
        f"page and fails if the 99th percentile grows to more than {MOST:.2f} times.",
        table(headings, rows),
        "Occlusion begins when the cores have had no other work for 50 ms. With few requests "
        "nearly every one of them interrupts a batch; with many there is never time for one, and "
        "no explanation comes to its end. Class activation mapping is a request like any other, "
        "and draws its map on a core that requests would have had.",
    )


if __name__ == "__main__":
    main()
