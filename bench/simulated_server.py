"""A simulated convd server, and the cores that it shares with others (SimPy).

A server is what convd is with one runner: work on each call that needs the interpreter, one call at
a time, and batches of all rows that wait. Cores are shared equally among all that runs on them
(processor sharing), as the kernel does; so servers, balancer and callers may share a machine.
"""

import heapq
import itertools
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy
from simpy.events import Event

Process = Generator[Event, Any, None]


@dataclass(frozen=True)
class Costs:
    """Processor time of the parts of a call.

    Attributes:
        caller_seconds: At the caller, for each call.
        edge_seconds: At the balancer, for each call and each further attempt.
        call_seconds: At the server, for each call, besides the network.
        batch_seconds: At the server, for each batch.
        row_seconds: At the server, for each row of a batch, in addition.
        variation: Measured costs of batches as multiples of their median; drawn from.
    """

    caller_seconds: float
    edge_seconds: float
    call_seconds: float
    batch_seconds: float
    row_seconds: float
    variation: Sequence[float] = (1.0,)


class Cores:
    """Cores that all work on them shares equally, none getting more than one core.

    Args:
        environment: The simulation.
        count: How many cores.
    """

    def __init__(self, environment: simpy.Environment, count: float) -> None:
        self._environment = environment
        self._count = count
        # What each share has done since the beginning; work ends when this reaches its mark.
        self._done = 0.0
        self._at = 0.0
        self._ends: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._timer = 0

    def work(self, seconds: float) -> Event:
        """Begin work; the event is when it is done."""
        self._advance()
        end = self._environment.event()
        heapq.heappush(self._ends, (self._done + seconds, next(self._numbers), end))
        self._set_timer()
        return end

    def _rate(self) -> float:
        return min(1.0, self._count / len(self._ends))

    def _advance(self) -> None:
        if self._ends:
            self._done += (self._environment.now - self._at) * self._rate()
        self._at = self._environment.now

    def _set_timer(self) -> None:
        self._timer += 1
        if self._ends:
            left = max(self._ends[0][0] - self._done, 0.0) / self._rate()
            timer, number = self._environment.timeout(left), self._timer
            timer.callbacks.append(lambda _: self._expire(number))

    def _expire(self, number: int) -> None:
        if number != self._timer:
            return
        self._advance()
        # The first is due, whatever rounding says.
        due = max(self._done, self._ends[0][0])
        while self._ends and self._ends[0][0] <= due:
            heapq.heappop(self._ends)[2].succeed()
        self._set_timer()


@dataclass(eq=False)
class Attempt:
    """A call at one server.

    Attributes:
        server: The server.
        ended: When it answers; the value is whether it was answered well.
        abandoned: Whether nobody waits for it any more.
    """

    server: "Server"
    ended: Event
    abandoned: bool = False


class Server:
    """A server with one runner.

    Args:
        environment: The simulation.
        cores: Where it runs.
        costs: What its work costs.
        generator: Draws the variation of costs, and failures.
        max_batch_size: Maximum rows in a batch.
        slowdown: How many times longer its work takes.
        failing: Share of its calls that it answers UNAVAILABLE, without work on them.

    Attributes:
        in_progress: Attempts in progress, as the balancer counts them.
        attempts: Attempts so far.
    """

    def __init__(
        self,
        environment: simpy.Environment,
        cores: Cores,
        costs: Costs,
        generator: random.Random,
        *,
        max_batch_size: int = 32,
        slowdown: float = 1.0,
        failing: float = 0.0,
    ) -> None:
        self.in_progress = 0
        self.attempts = 0
        self._environment = environment
        self._cores = cores
        self._costs = costs
        self._generator = generator
        self._max_batch_size = max_batch_size
        self._slowdown = slowdown
        self._failing = failing
        self._interpreter = simpy.Resource(environment, 1)
        self._waiting: list[Attempt] = []
        self._arrived = environment.event()
        environment.process(self._run())

    def begin(self) -> Attempt:
        """Receive a call."""
        attempt = Attempt(self, self._environment.event())
        self.in_progress += 1
        self.attempts += 1
        attempt.ended.callbacks.append(self._end)
        self._environment.process(self._receive(attempt))
        return attempt

    def _end(self, _: Event) -> None:
        self.in_progress -= 1

    def _receive(self, attempt: Attempt) -> Process:
        with self._interpreter.request() as turn:
            yield turn
            yield self._cores.work(self._slowdown * self._costs.call_seconds)
        if self._generator.random() < self._failing:
            attempt.ended.succeed(False)
            return
        self._waiting.append(attempt)
        if not self._arrived.triggered:
            self._arrived.succeed()

    def _run(self) -> Process:
        while True:
            if not self._waiting:
                self._arrived = self._environment.event()
                yield self._arrived
            # Calls whose caller has gone are never run.
            for gone in [one for one in self._waiting if one.abandoned]:
                gone.ended.succeed(False)
            rows = [one for one in self._waiting if not one.abandoned]
            batch, self._waiting = rows[: self._max_batch_size], rows[self._max_batch_size :]
            if batch:
                cost = self._costs.batch_seconds + len(batch) * self._costs.row_seconds
                cost *= self._slowdown * self._generator.choice(self._costs.variation)
                yield self._cores.work(cost)
            for one in batch:
                one.ended.succeed(True)
