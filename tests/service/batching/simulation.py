"""Threads, clock and engine of a batcher, all simulated, so that any interleaving can be walked."""

import enum
from collections.abc import Callable, Sequence

import numpy as np

from convd.runtime.cores import CoreShare
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import Batch, Entry, EntryState, Priority
from convd.service.batching.schedule import Schedule
from convd.service.batching.slots import Slot


def rows_of(ids: Sequence[int]) -> Rows:
    """Rows of four bytes that hold an id each."""
    return np.array(ids, np.uint32).view(np.uint8).reshape(-1, 2, 2, 1)


def ids_of(rows: Rows) -> list[int]:
    return [int(value) for value in np.ascontiguousarray(rows).reshape(-1, 4).view(np.uint32)[:, 0]]


def engine(rows: Rows) -> Outputs:
    """Answers each row with its id, and with twice its id."""
    ids = np.array(ids_of(rows), np.float32)[:, None]
    return ids, 2 * ids


class Phase(enum.Enum):
    RUNNING_ALONE = "running alone"
    WAITING = "waiting"
    WOKEN = "woken, with a slot"
    RUNNING = "running a batch"
    DONE = "done"


class Request:
    """A request and its simulated thread."""

    def __init__(self, ids: list[int], deadline: float, arrived_at: float) -> None:
        self.ids = ids
        self.deadline = deadline
        self.arrived_at = arrived_at
        self.phase = Phase.WAITING
        self.started_at = 0.0
        self.ended_at = 0.0
        self.entry: Entry | None = None
        self.slot: Slot | None = None
        self.batch: Batch | None = None
        self.answered = False

    @property
    def running_rows(self) -> int:
        return self.batch.rows if self.batch else len(self.ids)

    @property
    def engine(self) -> Engine:
        assert self.slot is not None
        return self.slot.engine


class Simulation:
    """Does with a schedule what the combiner does, one step of one thread at a time."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.now = 0.0
        self.requests: list[Request] = []
        self.rows_run = 0
        # What the threads do without the combiner's lock comes when the test says so.
        self.grants = 0
        self.surplus: list[CoreShare] = []
        schedule.slots.connect(self._granted)

    def arrive(
        self, ids: list[int], deadline: float, priority: Priority = Priority.NORMAL
    ) -> Request:
        """Raises what the schedule raises."""
        request = Request(ids, deadline, self.now)
        arrival = self.schedule.arrive(rows_of(ids), self.now, deadline, priority)
        assert self.schedule.slots.surplus is None
        if isinstance(arrival, Entry):
            request.entry = arrival
        else:
            request.slot = arrival
            request.phase = Phase.RUNNING_ALONE
            request.started_at = self.now
            self.rows_run += len(ids)
        self.requests.append(request)
        return request

    def take_grant(self) -> None:
        """Let a slot have the cores that have come for it."""
        self.grants -= 1
        self.schedule.grant(self.now)
        self._conclude()

    def release_surplus(self) -> None:
        """Release cores that no slot has any more."""
        self.surplus.pop().release()

    def running(self) -> list[Request]:
        return [r for r in self.requests if r.phase in (Phase.RUNNING, Phase.RUNNING_ALONE)]

    def can_step(self, request: Request) -> bool:
        if request.phase is Phase.WAITING:
            assert request.entry is not None
            return not request.entry.wake.locked() or request.deadline <= self.now
        return request.phase is Phase.WOKEN

    def step(self, request: Request) -> None:
        """Let a waiting or woken thread do what it does next, without the engine."""
        entry = request.entry
        assert entry is not None
        if request.phase is Phase.WAITING:
            self._wake(request, entry)
        else:
            assert request.slot is not None
            batch = self.schedule.start(entry, request.slot, self.now)
            self._conclude()
            if batch is None:
                self._after_leading(request, entry)
            else:
                for owner in batch.owners:
                    assert owner.state is EntryState.WAITING, "nobody runs after the end"
                    assert owner.deadline > self.now, "nobody runs after the deadline"
                request.batch = batch
                request.phase = Phase.RUNNING
                request.started_at = self.now
                self.rows_run += batch.rows

    def finish(self, request: Request, failure: Exception | None = None) -> None:
        """Let the engine answer the batch that a request's thread runs."""
        assert request.slot is not None
        if request.phase is Phase.RUNNING_ALONE:
            self.schedule.finish_alone(
                request.slot, failure or engine(rows_of(request.ids)), self.now
            )
            self._conclude()
            self._end(request, answered=failure is None and self.now < request.deadline)
            return
        assert request.entry is not None
        assert request.batch is not None
        batch, request.batch = request.batch, None
        outcome = failure or engine(np.concatenate(batch.arrays))
        stays = self.schedule.finish(request.entry, request.slot, batch, outcome, self.now)
        self._conclude()
        if stays:
            request.phase = Phase.WOKEN
        else:
            self._after_leading(request, request.entry)

    def settle_threads(self) -> None:
        """Step every thread that can, until none can."""
        while True:
            ready = [request for request in self.requests if self.can_step(request)]
            if self.surplus:
                self.release_surplus()
            elif self.grants:
                self.take_grant()
            elif ready:
                self.step(ready[0])
            else:
                return

    def forget_done(self) -> None:
        self.requests = [r for r in self.requests if r.phase is not Phase.DONE]

    def _granted(self) -> None:
        self.grants += 1

    def _conclude(self) -> None:
        slots = self.schedule.slots
        surplus, slots.surplus = slots.surplus, None
        if surplus is not None:
            self.surplus.append(surplus)

    def _wake(self, request: Request, entry: Entry) -> None:
        if not entry.wake.acquire(blocking=False):
            if request.deadline > self.now:
                return
            self.schedule.queue.drop(entry, EntryState.EXPIRED, self.now)
        request.slot = entry.slot
        if request.slot is not None:
            request.phase = Phase.WOKEN
        else:
            assert entry.state is not EntryState.WAITING, "nobody is woken for nothing"
            self._check_answer(request, entry)

    def _after_leading(self, request: Request, entry: Entry) -> None:
        request.slot = None
        request.phase = Phase.WAITING
        if entry.state is not EntryState.WAITING:
            self._check_answer(request, entry)

    def _check_answer(self, request: Request, entry: Entry) -> None:
        answered = entry.state is EntryState.ANSWERED
        if answered:
            result = entry.result()
            ids = np.array(request.ids, np.float32)[:, None]
            np.testing.assert_array_equal(result.outputs[0], ids)
            np.testing.assert_array_equal(result.outputs[1], 2 * ids)
            assert sum(result.batch_sizes) >= len(ids)
            assert result.queue_seconds >= 0
            assert entry.ended_at < request.deadline, "nobody is answered after the deadline"
        self._end(request, answered=answered)

    def _end(self, request: Request, *, answered: bool) -> None:
        assert request.phase is not Phase.DONE, "everybody is answered once"
        request.phase = Phase.DONE
        request.answered = answered
        request.ended_at = self.now


def run_open_loop(
    simulation: Simulation,
    arrivals: Sequence[float],
    *,
    timeout_seconds: float,
    cost_seconds: Callable[[Request], float],
    refusals: tuple[type[Exception], ...],
) -> list[Request]:
    """Let requests of one row arrive at given times, until all are done.

    Args:
        simulation: Where they arrive.
        arrivals: When, in ascending order.
        timeout_seconds: How long each allows for its answer.
        cost_seconds: How long the engine takes for the batch that a request's thread runs.
        refusals: Errors that an arrival may meet.

    Returns:
        The requests that were not refused.
    """
    accepted: list[Request] = []
    waiting = list(reversed(arrivals))
    while True:
        ends = [(r.started_at + cost_seconds(r), r) for r in simulation.running()]
        next_end = min((end for end, _ in ends), default=float("inf"))
        if not ends and not waiting:
            break
        if waiting and waiting[-1] < next_end:
            simulation.now = waiting.pop()
            try:
                accepted.append(
                    simulation.arrive([len(accepted)], simulation.now + timeout_seconds)
                )
            except refusals:
                continue
        else:
            simulation.now = next_end
            simulation.finish(min(ends, key=lambda pair: pair[0])[1])
        simulation.settle_threads()
        simulation.forget_done()
    return accepted
