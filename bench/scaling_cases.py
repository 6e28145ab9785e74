"""What is simulated for docs/scaling.md: runs that were measured, and cases that cannot be."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import simpy

from bench.simulate import (
    Edge,
    Policy,
    at_random,
    by_connection,
    closed_loop,
    least_of_all,
    least_of_two,
    open_loop,
    percentile,
    round_robin,
    seeded,
)
from bench.simulated_server import Cores, Costs, Server

_SECONDS = 20.0
_SERVERS = 8
_LOAD = 0.6
_SLOWDOWN = 10.0
_DEADLINE_SECONDS = 1.0
_SCALING_INTERVAL_SECONDS = 15.0


@dataclass(frozen=True)
class Result:
    """What callers get.

    Attributes:
        calls_per_second: Answers.
        p50_seconds: Median time of an answer.
        p99_seconds: 99th percentile.
        attempts: Calls that servers received, over those that callers made.
        failed: Share of the calls that ended without an answer.
    """

    calls_per_second: float
    p50_seconds: float
    p99_seconds: float
    attempts: float
    failed: float


def one_machine(costs: Costs, cores: float, servers: int, callers: int) -> Result:
    """Servers, Envoy and callers in a closed loop, all on the same cores."""
    environment, generator = simpy.Environment(), seeded(0)
    shared = Cores(environment, cores)
    fleet = [Server(environment, shared, costs, generator) for _ in range(servers)]
    edge = Edge(environment, fleet, least_of_two(generator), costs, shared)
    closed_loop(edge, callers, lambda: shared.work(costs.caller_seconds))
    environment.run(until=_SECONDS)
    return _result(edge)


def balancing(costs: Costs) -> list[tuple[str, Result, Result]]:
    """Each policy without and with one slow server."""
    return [
        (name, _fleet(costs, policy, hedged, 1.0), _fleet(costs, policy, hedged, _SLOWDOWN))
        for name, policy, hedged in _POLICIES
    ]


_POLICIES: Sequence[tuple[str, Callable[[], Policy], bool]] = (
    ("by connection", lambda: by_connection, False),
    ("at random", lambda: at_random(seeded(1)), False),
    ("in turn", round_robin, False),
    ("the less busy of two", lambda: least_of_two(seeded(1)), False),
    ("the least busy", lambda: least_of_all, False),
    ("the less busy of two, hedged after the p95", lambda: least_of_two(seeded(1)), True),
)


def _fleet(costs: Costs, policy: Callable[[], Policy], hedged: bool, slowdown: float) -> Result:
    hedge = _percentile_95(costs) if hedged else None
    environment, generator = simpy.Environment(), seeded(0)
    servers = [
        Server(
            environment,
            Cores(environment, 1),
            costs,
            generator,
            slowdown=1.0 if number else slowdown,
        )
        for number in range(_SERVERS)
    ]
    edge = Edge(environment, servers, policy(), costs, hedge_seconds=hedge)
    rate = _LOAD * _SERVERS * capacity(costs)
    open_loop(edge, lambda _: rate, generator)
    environment.run(until=_SECONDS)
    return _result(edge)


def _percentile_95(costs: Costs) -> float:
    environment, generator = simpy.Environment(), seeded(3)
    servers = [
        Server(environment, Cores(environment, 1), costs, generator) for _ in range(_SERVERS)
    ]
    edge = Edge(environment, servers, least_of_two(generator), costs)
    open_loop(edge, lambda _: _LOAD * _SERVERS * capacity(costs), generator)
    environment.run(until=_SECONDS)
    return percentile(edge.seconds, 95)


def capacity(costs: Costs) -> float:
    """Calls per second of a server with a core, in batches of eight."""
    return 1 / (costs.call_seconds + costs.batch_seconds / 8 + costs.row_seconds)


def retries(costs: Costs) -> list[tuple[str, float, Result]]:
    """Servers of which all, or one of three, answer a share of their calls UNAVAILABLE."""
    cases = []
    for name, retried, budget in (
        ("no retries", 0, None),
        ("three, no budget", 3, None),
        ("three, within a fifth", 3, 0.2),
    ):
        for share in (0.1, 0.9):
            environment, generator = simpy.Environment(), seeded(0)
            servers = [
                Server(environment, Cores(environment, 1), costs, generator, failing=share)
                for _ in range(_SERVERS)
            ]
            edge = Edge(
                environment,
                servers,
                least_of_two(generator),
                costs,
                retries=retried,
                budget=budget,
                min_budget=1,
            )
            open_loop(edge, lambda _: _LOAD * _SERVERS * capacity(costs), generator)
            environment.run(until=_SECONDS)
            cases.append((name, share, _result(edge)))
    return cases


@dataclass(frozen=True)
class Step:
    """What a step of the load does.

    Attributes:
        lag_seconds: From the decision until a new server answers.
        late: Share of the calls after the step that took longer than a second.
        recovered_seconds: From the step until calls were in time again; None for never.
        servers: How many there were at the end.
    """

    lag_seconds: float
    late: float
    recovered_seconds: float | None
    servers: int


def autoscaling(costs: Costs, lags_seconds: Sequence[float]) -> list[Step]:
    """Four servers at half load, whose load triples, and an autoscaler that sees utilisation."""
    # Fewer and larger calls, for as many seconds of simulated time.
    costs = replace(costs, batch_seconds=4 * costs.batch_seconds, row_seconds=4 * costs.row_seconds)
    return [_step(costs, lag) for lag in lags_seconds]


def _step(costs: Costs, lag_seconds: float) -> Step:
    environment, generator = simpy.Environment(), seeded(0)
    step_at, end_at = 60.0, 360.0

    def server() -> Server:
        return Server(environment, Cores(environment, 1), costs, generator)

    edge = Edge(environment, [server() for _ in range(4)], least_of_two(generator), costs)
    rate = 0.5 * 4 * capacity(costs)

    def offered(now: float) -> float:
        return rate if now < step_at else 3 * rate

    def scale() -> object:
        planned = len(edge.servers)
        while True:
            yield environment.timeout(_SCALING_INTERVAL_SECONDS)
            # What is asked for over what there will be, to 60 %: what an HPA computes from a rate.
            wanted = -(
                -offered(environment.now - _SCALING_INTERVAL_SECONDS) // (_LOAD * capacity(costs))
            )
            for _ in range(int(wanted) - planned):
                environment.process(add())  # type: ignore[arg-type]
            planned = max(planned, int(wanted))

    def add() -> object:
        yield environment.timeout(lag_seconds)
        edge.servers.append(server())

    environment.process(scale())  # type: ignore[arg-type]
    open_loop(edge, offered, generator)
    environment.run(until=end_at)
    after = [
        (at, seconds)
        for at, seconds in zip(edge.answered_at, edge.seconds, strict=True)
        if at >= step_at
    ]
    late = [at for at, seconds in after if seconds > _DEADLINE_SECONDS]
    last = max(late, default=step_at)
    return Step(
        lag_seconds,
        len(late) / len(after),
        last - step_at if last < end_at - 5 else None,
        len(edge.servers),
    )


def _result(edge: Edge) -> Result:
    calls = len(edge.seconds) + edge.failed
    # The first quarter fills queues.
    settled = [
        seconds
        for at, seconds in zip(edge.answered_at, edge.seconds, strict=True)
        if at >= _SECONDS / 4
    ]
    return Result(
        len(settled) / (0.75 * _SECONDS),
        statistics.median(settled),
        percentile(settled, 99),
        sum(server.attempts for server in edge.servers) / calls,
        edge.failed / calls,
    )
