"""The home core: who stays there, who leaves it, and when it moves."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.runtime.home_core import HomeCore
from convd.runtime.home_keeper import HomeKeeper, better_home, busy_seconds, running_seconds

CORES = frozenset(os.sched_getaffinity(0))

needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")

FIRST, SECOND = min(CORES), max(CORES)

_Answer = TypeVar("_Answer")


class Resident:
    """A thread that stays at home, and does what it is told."""

    def __init__(self, home: HomeCore) -> None:
        self._pool = ThreadPoolExecutor(1, initializer=home.stay)
        self.tid = self.do(threading.get_native_id)

    def do(self, work: Callable[[], _Answer]) -> _Answer:
        return self._pool.submit(work).result()

    def cores(self) -> set[int]:
        return os.sched_getaffinity(self.tid)

    def end(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def home() -> HomeCore:
    home = HomeCore()
    home.settle(FIRST, CORES)
    return home


@pytest.fixture
def resident(home: HomeCore) -> Iterator[Resident]:
    resident = Resident(home)
    yield resident
    resident.end()


@needs_two_cores
def test_a_thread_stays_at_home_and_others_do_not(home: HomeCore, resident: Resident) -> None:
    assert resident.cores() == {FIRST}
    assert os.sched_getaffinity(0) == CORES
    assert home.residents() == [resident.tid]
    assert resident.do(home.cores) == CORES


@needs_two_cores
def test_it_leaves_for_a_while_and_comes_back(home: HomeCore, resident: Resident) -> None:
    def leave() -> set[int]:
        with home.away():
            return os.sched_getaffinity(0)

    def fail() -> None:
        with home.away():
            raise KeyError

    assert resident.do(leave) == CORES - {FIRST}
    with pytest.raises(KeyError):
        resident.do(fail)
    assert resident.cores() == {FIRST}


@needs_two_cores
def test_where_the_other_cores_are_taken_the_home_core_computes_too(home: HomeCore) -> None:
    residents = [Resident(home) for _ in range(len(CORES))]
    meeting = threading.Barrier(len(CORES))

    def leave() -> set[int]:
        with home.away():
            meeting.wait()
            cores = os.sched_getaffinity(0)
            meeting.wait()
            return cores

    with ThreadPoolExecutor(len(CORES)) as pool:
        seen = list(pool.map(lambda one: one.do(leave), residents))
    assert sorted(map(len, seen)) == [*[len(CORES) - 1] * (len(CORES) - 1), len(CORES)]
    assert all(one.cores() == {FIRST} for one in residents)
    for one in residents:
        one.end()


@needs_two_cores
def test_what_a_resident_creates_while_it_roams_may_run_anywhere(
    home: HomeCore, resident: Resident
) -> None:
    def create(*, roaming: bool) -> set[int]:
        seen: list[set[int]] = []
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        if roaming:
            with home.roaming():
                thread.start()
        else:
            thread.start()
        thread.join()
        return seen[0]

    assert resident.do(lambda: create(roaming=True)) == CORES
    assert resident.do(lambda: create(roaming=False)) == {FIRST}
    resident.do(home.roam)
    assert resident.cores() == CORES
    assert home.residents() == []


@needs_two_cores
def test_when_home_moves_its_threads_move_but_for_those_that_are_away(home: HomeCore) -> None:
    stays, leaves, gone = Resident(home), Resident(home), Resident(home)
    gone.end()

    def leave() -> set[int]:
        with home.away():
            home.settle(SECOND, CORES)
            return os.sched_getaffinity(0)

    assert leaves.do(leave) == CORES - {FIRST}
    assert leaves.cores() == stays.cores() == {SECOND}
    for one in (stays, leaves):
        one.end()


def test_without_a_home_core_nothing_is_restricted() -> None:
    home = HomeCore()
    resident = Resident(home)
    with home.away(), home.roaming():
        assert os.sched_getaffinity(0) == CORES
    home.roam()
    assert resident.cores() == CORES
    assert home.residents() == []
    resident.end()


@given(
    st.dictionaries(st.integers(0, 63), st.floats(0, 1), min_size=2),
    st.floats(0, 1),
)
def test_another_core_is_better_only_if_others_disturb_clearly_less_there(
    shares: dict[int, float], own: float
) -> None:
    home = min(shares)
    best = min(share for core, share in shares.items() if core != home)
    better = better_home(shares, own, home)
    disturbed = shares[home] - own - best
    assert (better != home) == (disturbed >= 0.3)
    if better != home:
        assert shares[better] < best + 0.1


class Machine:
    """What a keeper reads of a machine."""

    def __init__(self, cores: set[int]) -> None:
        self.now = 0.0
        self.cores = cores
        self.busy = dict.fromkeys(range(8), 0.0)
        self.own = 0.0

    def pass_second(self, own: float, **shares: float) -> None:
        self.now += 1
        self.own += own
        for name, share in shares.items():
            self.busy[int(name[3:])] += share

    def keeper(self, home: HomeCore, place: float = 0.0) -> HomeKeeper:
        return HomeKeeper(
            home,
            place,
            cores=lambda: self.cores,
            core_seconds=lambda: dict(self.busy),
            thread_seconds=lambda _tid: self.own,
            clock=lambda: self.now,
        )


class WatchedHome(HomeCore):
    """A home core with one thread, which is nowhere."""

    def residents(self) -> list[int]:
        return [1]


def test_home_moves_when_others_keep_it_busy_and_not_for_its_own_threads() -> None:
    machine, home = Machine({0, 1, 2}), WatchedHome()
    home.settle(0, frozenset(machine.cores))
    keeper = machine.keeper(home)
    keeper.look()
    machine.pass_second(own=0.9, cpu0=1.0, cpu1=0.2, cpu2=0.5)
    keeper.look()
    assert home.core == 0
    machine.pass_second(own=0.4, cpu0=1.0, cpu1=0.2, cpu2=0.5)
    keeper.look()
    assert home.core == 1
    machine.pass_second(own=0.1, cpu0=1.0, cpu1=1.0, cpu2=0.9)
    keeper.look()
    assert home.core == 1, "no other core is clearly better"


def test_home_moves_when_its_core_is_taken_from_the_container() -> None:
    machine, home = Machine({2, 3, 4}), WatchedHome()
    home.settle(2, frozenset(machine.cores))
    keeper = machine.keeper(home)
    keeper.look()
    machine.cores = {3, 4, 5}
    machine.pass_second(own=0.0, cpu3=0.9, cpu4=0.1, cpu5=0.2)
    keeper.look()
    assert home.core == 4


@pytest.mark.parametrize(("place", "core"), [(0.0, 1), (0.25, 3), (0.5, 5), (0.99, 7)])
def test_processes_that_start_together_settle_apart(place: float, core: int) -> None:
    machine, home = Machine({1, 3, 5, 7}), HomeCore()
    assert machine.keeper(home, place).settle()
    assert home.core == core


def test_there_is_no_home_on_a_single_core_or_where_the_system_says_nothing() -> None:
    home = HomeCore()
    assert not Machine({3}).keeper(home).settle()

    def unreadable() -> dict[int, float]:
        raise PermissionError

    assert not HomeKeeper(home, 0.0, core_seconds=unreadable).settle()
    assert home.core is None


def test_the_system_says_how_busy_cores_and_threads_are() -> None:
    cores, thread = busy_seconds(), running_seconds(threading.get_native_id())
    assert cores.keys() >= CORES
    while running_seconds(threading.get_native_id()) < thread + 0.1:
        pass
    assert sum(busy_seconds().values()) > sum(cores.values())
    assert running_seconds(2**22 + 1) == 0.0
