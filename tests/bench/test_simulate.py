"""The simulation against what queueing theory knows."""

import random

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulate import (
    Edge,
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

FREE = Costs(0.0, 0.0, 0.0, 0.0, 0.0)


def fleet(
    costs: Costs, count: int = 1, seed: int = 0
) -> tuple[simpy.Environment, Edge, random.Random]:
    environment, generator = simpy.Environment(), seeded(seed)
    servers = [
        Server(environment, Cores(environment, 1), costs, generator, max_batch_size=1)
        for _ in range(count)
    ]
    return environment, Edge(environment, servers, least_of_all, costs), generator


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 5)), min_size=1, max_size=12),
    st.integers(1, 4),
)
@settings(max_examples=50, deadline=None)
def test_cores_lose_no_work_and_do_no_more_than_they_can(
    jobs: list[tuple[float, float]], count: int
) -> None:
    environment = simpy.Environment()
    cores = Cores(environment, count)
    took: list[tuple[float, float]] = []

    def job(begin: float, seconds: float) -> object:
        yield environment.timeout(begin)
        yield cores.work(seconds)
        took.append((environment.now - begin, seconds))

    for begin, seconds in jobs:
        environment.process(job(begin, seconds))  # type: ignore[arg-type]
    environment.run()
    assert len(took) == len(jobs)
    # No one is faster than alone; together they are not slower than one core.
    assert all(elapsed >= seconds - 1e-6 for elapsed, seconds in took)
    work = sum(seconds for _, seconds in jobs)
    assert environment.now >= work / count - 1e-6
    assert environment.now <= max(begin for begin, _ in jobs) + work + 1e-6


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_server_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    service = 0.01
    environment, edge, generator = fleet(Costs(0, 0, 0, service, 0))
    open_loop(edge, lambda _: load / service, generator)
    environment.run(until=200)
    mean = sum(edge.seconds) / len(edge.seconds)
    # M/D/1: half the waiting time of M/M/1.
    assert mean == pytest.approx(service * (1 + load / (2 * (1 - load))), rel=0.05)


def test_a_closed_loop_is_as_fast_as_its_bottleneck() -> None:
    environment, generator = simpy.Environment(), seeded(0)
    cores = Cores(environment, 2)
    costs = Costs(0.0, 0.0, 0.001, 0.004, 0.002)
    servers = [Server(environment, cores, costs, generator) for _ in range(3)]
    edge = Edge(environment, servers, least_of_two(generator), costs, cores)
    closed_loop(edge, 12, lambda: cores.work(costs.caller_seconds))
    environment.run(until=50)
    rate = len(edge.seconds) / 50
    # Two cores do at most this, with a batch of all callers and with batches of one.
    assert 2 / (0.001 + 0.004 + 0.002) <= rate <= 2 / (0.001 + 0.004 / 12 + 0.002)
    # Little's law.
    assert rate * sum(edge.seconds) / len(edge.seconds) == pytest.approx(12, rel=0.01)


def test_policies_choose_as_their_names_say() -> None:
    _, edge, generator = fleet(FREE, count=3)
    servers = edge.servers
    assert [by_connection(servers, caller) for caller in range(6)] == servers * 2
    turn = round_robin()
    assert [turn(servers, 0) for _ in range(6)] == servers * 2
    servers[0].in_progress, servers[1].in_progress, servers[2].in_progress = 5, 0, 5
    assert least_of_all(servers, 0) is servers[1]
    drawn = [least_of_two(generator)(servers, 0) for _ in range(900)]
    assert drawn.count(servers[1]) / 900 == pytest.approx(5 / 9, abs=0.06)
    drawn = [at_random(generator)(servers, 0) for _ in range(900)]
    assert drawn.count(servers[1]) / 900 == pytest.approx(1 / 3, abs=0.06)


def test_a_hedge_hides_a_slow_server_and_the_budget_bounds_them() -> None:
    costs = Costs(0, 0, 0, 0.01, 0)

    def slow(hedge: float | None) -> Edge:
        environment, generator = simpy.Environment(), seeded(1)
        servers = [
            Server(
                environment,
                Cores(environment, 1),
                costs,
                generator,
                slowdown=10.0 if one == 0 else 1,
            )
            for one in range(3)
        ]
        edge = Edge(
            environment,
            servers,
            round_robin(),
            costs,
            hedge_seconds=hedge,
            budget=0.0,
            min_budget=4,
        )
        open_loop(edge, lambda _: 20.0, generator)
        environment.run(until=60)
        return edge

    without, hedged = slow(None), slow(0.02)
    assert percentile(without.seconds, 99) > 0.1
    assert percentile(hedged.seconds, 99) < 0.06
    assert sum(server.attempts for server in hedged.servers) <= 1.5 * len(hedged.seconds)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_every_call_ends_once_and_is_tried_as_often_as_allowed(retries: int) -> None:
    environment, generator = simpy.Environment(), seeded(2)
    costs = Costs(0, 0, 0.001, 0.001, 0)
    servers = [
        Server(environment, Cores(environment, 1), costs, generator, failing=0.5) for _ in range(4)
    ]
    edge = Edge(environment, servers, at_random(generator), costs, retries=retries, budget=None)
    calls = 1000
    for caller in range(calls):
        environment.process(edge.call(caller))
    environment.run(until=60)
    assert len(edge.seconds) + edge.failed == calls
    assert edge.failed / calls == pytest.approx(0.5 ** (retries + 1), abs=0.05)
    assert sum(server.attempts for server in servers) <= calls * (retries + 1)
    assert all(server.in_progress == 0 for server in servers)
