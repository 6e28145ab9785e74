import threading
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.runtime.cores import (
    CoreAccount,
    CoreBudget,
    CoreLine,
    CoreRequest,
    available_cores,
)
from tests.support import wait_until


@dataclass
class Line:
    """A line in which models ask for cores by name."""

    line: CoreLine

    def __post_init__(self) -> None:
        self.accounts: dict[str, CoreAccount] = {}
        self.requests: list[tuple[str, CoreRequest]] = []

    def ask(self, name: str, cores: int) -> None:
        account = self.accounts.setdefault(name, CoreAccount())
        request = CoreRequest(account, cores)
        self.requests.append((name, request))
        self.line.ask(request)

    def end(self, name: str, seconds: float) -> None:
        """End the first batch of a model that runs."""
        self.line.give_back(self._pop(name), seconds)

    def renew(self, name: str, seconds: float) -> None:
        """End it, and ask for the next."""
        self.requests.append((name, self.line.renew(self._pop(name), seconds)))

    def _pop(self, name: str) -> CoreRequest:
        place = next(
            index
            for index, (owner, request) in enumerate(self.requests)
            if owner == name and request.granted
        )
        return self.requests.pop(place)[1]

    @property
    def granted(self) -> str:
        """The models that hold cores, in the order in which they asked."""
        return " ".join(name for name, request in self.requests if request.granted)


# Cores, what happens, and who runs afterwards. "name:cores" asks, "name/seconds" ends a batch,
# "name~seconds" ends it and asks again.
TABLE = [
    (2, "a:1", "a"),
    (2, "a:1 b:1", "a b"),
    (2, "a:1 b:1 c:1", "a b"),
    # Of equals the first that asked.
    (1, "a:1 b:1 c:1 a/0", "b"),
    # The least computing time, whoever asked first.
    (1, "a:1 b:1 a~5 c:1 b~2", "c"),
    (1, "a:1 b:1 a~5 b~1 b~1 b~1 b~1", "b"),
    (1, "a:1 b:1 a~5 b~1 b~1 b~1 b~1 b~2", "a"),
    # Nothing waits for a model that does not ask again.
    (1, "a:1 b:1 a~5 b/1", "a"),
    # Cores count: two of them for a second are two seconds.
    (2, "a:2 b:1 c:1 a~1 b~1 c~1", "b c"),
    # A batch that needs every core is not overtaken by those that fit.
    (2, "a:1 b:2 c:1", "a"),
    (2, "a:1 b:2 c:1 a/1", "b"),
    (2, "a:1 b:2 c:1 d:1 a/1 b/1", "c d"),
    # A model that was idle does not save up time: it begins where the others stand.
    (1, "a:1 a~100 b:1 a~1 b~1", "a"),
    (1, "b:1 b/0 a:1 a~100 b:1 a~1 b~2", "a"),
    # Two batches of one model count for one account.
    (2, "a:1 a:1 b:1 a~1", "a b"),
    (2, "a:1 a:1 b:1 a~1 b~2", "a a"),
]


@pytest.mark.parametrize(("cores", "events", "granted"), TABLE)
def test_the_next_cores_go_to_the_least_computing_time(
    cores: int, events: str, granted: str
) -> None:
    line = Line(CoreLine(cores))
    for event in events.split():
        name, kind, amount = event[0], event[1], float(event[2:])
        if kind == ":":
            line.ask(name, int(amount))
        elif kind == "/":
            line.end(name, amount)
        else:
            line.renew(name, amount)
    assert line.granted == granted


@given(
    cores=st.integers(1, 4),
    seconds=st.lists(st.floats(0.01, 10), min_size=2, max_size=4),
    wanted=st.lists(st.integers(1, 4), min_size=4, max_size=4),
)
def test_busy_models_get_the_same_computing_time(
    cores: int, seconds: list[float], wanted: list[int]
) -> None:
    """Whatever their batches cost: they differ by no more than the longest batch or two."""
    line = Line(CoreLine(cores))
    batch = {str(i): (min(wanted[i], cores), each) for i, each in enumerate(seconds)}
    ends: list[tuple[float, str]] = []
    running: dict[str, int] = dict.fromkeys(batch, 0)
    now = 0.0
    for name, (needs, _) in batch.items():
        line.ask(name, needs)
    for _ in range(400):
        for name, request in line.requests:
            if request.granted and not running[name]:
                running[name] = 1
                ends.append((now + batch[name][1], name))
        ends.sort()
        now, name = ends.pop(0)
        running[name] = 0
        line.renew(name, batch[name][1])
    used = [line.accounts[name].core_seconds for name in batch]
    longest = max(needs * each for needs, each in batch.values())
    # One model cannot use more cores than one batch of it needs.
    if all(needs == cores for needs, _ in batch.values()):
        assert max(used) - min(used) <= 2 * longest


@settings(max_examples=25, deadline=None)
@given(
    cores=st.integers(1, 4),
    threads=st.lists(st.integers(1, 6), min_size=1, max_size=12),
)
def test_never_gives_away_more_cores_than_there_are(cores: int, threads: list[int]) -> None:
    budget = CoreBudget(cores)
    lock = threading.Lock()
    busy, most, turns = 0, 0, 0

    def work(wanted: int) -> None:
        nonlocal busy, most, turns
        account = CoreAccount()
        for _ in range(20):
            request = budget.request(account, wanted)
            request.wait()
            with lock:
                busy += min(wanted, cores)
                most = max(most, busy)
            with lock:
                busy -= min(wanted, cores)
                turns += 1
            budget.release(request, 0.001)

    workers = [threading.Thread(target=work, args=(wanted,), daemon=True) for wanted in threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert turns == 20 * len(threads)
    assert most <= cores
    assert budget.busy == budget.running == 0


def test_a_request_for_more_than_there_are_gets_all() -> None:
    budget = CoreBudget(2)
    request = budget.request(CoreAccount(), 8)
    assert request.granted
    assert (budget.busy, budget.running) == (2, 1)
    budget.release(request, 1.0)
    assert (budget.busy, budget.running) == (0, 0)


def test_cores_that_are_taken_for_a_while_come_back_after_a_failure() -> None:
    budget = CoreBudget(2)
    with pytest.raises(RuntimeError), budget.take(2):
        assert budget.busy == 2
        raise RuntimeError
    assert budget.busy == budget.running == 0


@pytest.mark.parametrize("too_late", [False, True])
def test_a_thread_that_is_interrupted_while_it_waits_leaves_the_line(
    monkeypatch: pytest.MonkeyPatch, too_late: bool
) -> None:
    """Also where the cores were granted just then."""
    budget = CoreBudget(2)
    first = budget.request(CoreAccount(), 1)

    def interrupt(_: CoreRequest) -> None:
        if too_late:
            budget.release(first, 0.0)
        raise KeyboardInterrupt

    behind: list[CoreRequest] = []
    with monkeypatch.context() as patch:
        patch.setattr(CoreRequest, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt), budget.take(2):
            pytest.fail("it must not run")
    behind.append(budget.request(CoreAccount(), 1))
    assert behind[0].granted
    assert budget.busy == (1 if too_late else 2)


def test_a_waiting_thread_goes_on_when_its_cores_come() -> None:
    budget = CoreBudget(1)
    order: list[str] = []

    def wait(name: str) -> None:
        with budget.take(1):
            order.append(name)

    with budget.take(1):
        threads = [threading.Thread(target=wait, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(budget._line.waiting) == 2)
        time.sleep(0.01)
        assert order == []
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(order) == ["a", "b"]


def test_available_cores_are_those_of_this_process() -> None:
    assert available_cores() >= 1
