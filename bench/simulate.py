"""A discrete-event simulation of callers and a balancer before convd servers (SimPy)."""

import itertools
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import simpy
from simpy.events import Event

from bench.simulated_server import Attempt, Cores, Costs, Process, Server


class Policy(Protocol):
    """Chooses a server for a call, of a caller with a number."""

    def __call__(self, servers: Sequence[Server], caller: int) -> Server:
        """The server."""


def by_connection(servers: Sequence[Server], caller: int) -> Server:
    """Each caller's connection goes to one server, as without a balancer of calls."""
    return servers[caller % len(servers)]


def round_robin() -> Policy:
    """The servers in turn."""
    turns = itertools.count()
    return lambda servers, _: servers[next(turns) % len(servers)]


def at_random(generator: random.Random) -> Policy:
    """Any server."""
    return lambda servers, _: generator.choice(servers)


def least_of_two(generator: random.Random) -> Policy:
    """Of two servers, the one with fewer calls in progress; Envoy's LEAST_REQUEST."""

    def choose(servers: Sequence[Server], caller: int) -> Server:  # noqa: ARG001
        first, second = generator.choice(servers), generator.choice(servers)
        return second if second.in_progress < first.in_progress else first

    return choose


def least_of_all(servers: Sequence[Server], caller: int) -> Server:  # noqa: ARG001
    """The server with the fewest calls in progress."""
    return min(servers, key=lambda server: server.in_progress)


@dataclass
class Edge:
    """The balancer.

    Attributes:
        environment: The simulation.
        servers: The servers; may grow.
        policy: Chooses one of them.
        costs: What its work costs.
        cores: Where it runs; None if its work takes no time.
        hedge_seconds: After this time a second server is asked, too; None for never.
        retries: How often a failed call is tried again, at most.
        budget: Largest share of further attempts in the calls in progress; None for no bound.
        seconds: How long each answered call took, in the order of the answers.
        answered_at: When.
        failed: Calls without an answer.
    """

    environment: simpy.Environment
    servers: list[Server]
    policy: Policy
    costs: Costs
    cores: Cores | None = None
    hedge_seconds: float | None = None
    retries: int = 0
    budget: float | None = 0.2
    min_budget: int = 8
    seconds: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    failed: int = 0
    _in_progress: int = 0
    _further: int = 0

    def call(self, caller: int) -> Process:
        """One call."""
        begun = self.environment.now
        self._in_progress += 1
        good = yield from self._with_retries(caller)
        self._in_progress -= 1
        if good:
            self.seconds.append(self.environment.now - begun)
            self.answered_at.append(self.environment.now)
        else:
            self.failed += 1

    def _with_retries(self, caller: int) -> Generator[Event, Any, bool]:
        tried: list[Server] = []
        for number in range(self.retries + 1):
            if number and not self._may_try_again():
                return False
            self._further += number > 0
            good = yield from self._hedged(caller, tried)
            self._further -= number > 0
            if good:
                return True
        return False

    def _hedged(self, caller: int, tried: list[Server]) -> Generator[Event, Any, bool]:
        first = yield from self._attempt(caller, tried)
        if self.hedge_seconds is None:
            return bool((yield first.ended))
        yield first.ended | self.environment.timeout(self.hedge_seconds)
        if first.ended.triggered or not self._may_try_again():
            return bool((yield first.ended))
        self._further += 1
        second = yield from self._attempt(caller, tried)
        yield first.ended | second.ended
        self._further -= 1
        first.abandoned = second.abandoned = True
        return any(one.ended.triggered and one.ended.value for one in (first, second))

    def _attempt(self, caller: int, tried: list[Server]) -> Generator[Event, Any, Attempt]:
        if self.cores is not None:
            yield self.cores.work(self.costs.edge_seconds)
        rest = [server for server in self.servers if server not in tried] or self.servers
        server = self.policy(rest, caller)
        tried.append(server)
        return server.begin()

    def _may_try_again(self) -> bool:
        if self.budget is None:
            return True
        return self._further < max(self.budget * self._in_progress, self.min_budget)


def closed_loop(edge: Edge, callers: int, think: Callable[[], Event]) -> None:
    """Callers that ask again as soon as they are answered.

    Args:
        edge: Whom they ask.
        callers: How many.
        think: What each does between an answer and the next call.
    """

    def ask(caller: int) -> Process:
        while True:
            yield think()
            yield edge.environment.process(edge.call(caller))

    for caller in range(callers):
        edge.environment.process(ask(caller))


def open_loop(
    edge: Edge, rate: Callable[[float], float], generator: random.Random, callers: int = 100
) -> None:
    """Calls that come whether or not others are answered: a Poisson process.

    Args:
        edge: Whom they ask.
        rate: Calls per second at a time.
        generator: Draws the distances.
        callers: How many callers make them.
    """

    def arrive() -> Process:
        while True:
            yield edge.environment.timeout(generator.expovariate(rate(edge.environment.now)))
            edge.environment.process(edge.call(generator.randrange(callers)))

    edge.environment.process(arrive())


def seeded(seed: int) -> random.Random:
    """Random numbers that are the same in every run."""
    return random.Random(seed)  # noqa: S311


def percentile(seconds: Sequence[float], percent: float) -> float:
    """The smallest value that a percentage of the values does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(int(percent / 100 * len(ordered)), len(ordered) - 1)]
