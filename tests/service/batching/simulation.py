"""Threads, clock and engine of a batcher, all simulated, so that any interleaving can be walked.

What runs is the schedule of production, with the runners' own life: only the steps that wait or
compute are simulated.
"""

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np

from convd.runtime.cores import CoreRequest
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import Batch, Entry, EntryState, Priority
from convd.service.batching.runners import Runner
from convd.service.batching.schedule import GiveWay, Schedule, Sleep, Step, StepOutcome


def rows_of(ids: Sequence[int]) -> Rows:
    """Rows of four bytes that hold an id each."""
    return np.array(ids, np.uint32).view(np.uint8).reshape(-1, 2, 2, 1)


def ids_of(rows: Rows) -> list[int]:
    return [int(value) for value in np.ascontiguousarray(rows).reshape(-1, 4).view(np.uint32)[:, 0]]


def engine(rows: Rows) -> Outputs:
    """Answers each row with its id, and with twice its id."""
    ids = np.array(ids_of(rows), np.float32)[:, None]
    return ids, 2 * ids


class Request:
    """A request and its simulated caller."""

    def __init__(self, ids: list[int], entry: Entry) -> None:
        self.ids = ids
        self.entry = entry
        self.done = False

    @property
    def answered(self) -> bool:
        return self.entry.state is EntryState.ANSWERED

    @property
    def deadline(self) -> float:
        return self.entry.deadline

    @property
    def arrived_at(self) -> float:
        return self.entry.arrived_at


class SimulatedRunner:
    """A runner whose thread is simulated."""

    def __init__(self, runner: Runner, life: Generator[Step, StepOutcome, None]) -> None:
        self.runner = runner
        self.life = life
        self.step: Step | None = next(life)
        self.sleeps_until = math.inf

    @property
    def batch(self) -> Batch | None:
        """The batch that it runs."""
        return self.step if isinstance(self.step, Batch) else None

    @property
    def rows(self) -> int:
        assert self.batch is not None
        return self.batch.rows

    @property
    def engine(self) -> Engine:
        return self.runner.engine

    @property
    def threads(self) -> int:
        return self.engine.cores.threads if self.engine.cores else 0

    @property
    def small_rows(self) -> int:
        """Rows that it may run without cores."""
        return self.engine.small_rows if self.engine.cores else self.engine.max_batch_size

    @property
    def started_at(self) -> float:
        return self.runner.since

    @property
    def ended(self) -> bool:
        return self.step is None


class Simulation:
    """Drives a schedule as the batcher does, one step of one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        instances: Engine | None = None,
        *,
        max_queue_size: int = 1000,
        max_queue_delay_seconds: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.quiet = 0
        self.schedule = Schedule(
            engine,
            instances,
            max_queue_size=max_queue_size,
            max_queue_delay_seconds=max_queue_delay_seconds,
            clock=lambda: self.now,
            on_quiet=self._note_quiet,
        )
        self.requests: list[Request] = []
        self.runners = [
            SimulatedRunner(runner, self.schedule.life(runner))
            for runner in self.schedule.runners.all
        ]
        self.rows_run = 0

    def arrive(
        self, ids: list[int], deadline: float, priority: Priority = Priority.NORMAL
    ) -> Request:
        """Raises what the schedule raises."""
        request = Request(ids, Entry(rows_of(ids), self.now, deadline, priority))
        self.schedule.arrive(request.entry)
        self.release_locks()
        self.requests.append(request)
        return request

    def threads(self) -> "list[Request | SimulatedRunner]":
        """Runners and callers."""
        return [*self.runners, *self.requests]

    def drop(self, request: Request, state: EntryState) -> None:
        """End a request before its answer."""
        self.schedule.drop(request.entry, state)
        self.release_locks()

    def drain(self) -> None:
        """Refuse what arrives from now on."""
        self.schedule.drain()
        self.release_locks()

    def close(self) -> None:
        """Refuse those that wait as well."""
        self.schedule.close()
        self.release_locks()

    def release_locks(self) -> None:
        """Let the threads go on that the schedule wants to wake."""
        locks, self.schedule.queue.locks = self.schedule.queue.locks, []
        for lock in locks:
            lock.release()

    def running(self) -> list[SimulatedRunner]:
        return [runner for runner in self.runners if runner.batch is not None]

    def can_step(self, thread: Request | SimulatedRunner) -> bool:
        """Whether a thread can go on without the end of a batch."""
        if isinstance(thread, Request):
            settled = not thread.entry.settled.locked()
            return not thread.done and (settled or thread.deadline <= self.now)
        step = thread.step
        if isinstance(step, Sleep):
            return not thread.runner.wake.locked() or thread.sleeps_until <= self.now
        if isinstance(step, CoreRequest):
            return step.granted
        return isinstance(step, GiveWay)

    def take_step(self, thread: Request | SimulatedRunner) -> None:
        """Let a thread that can do what it does next."""
        if isinstance(thread, Request):
            self._end_wait(thread)
            return
        outcome: StepOutcome = None
        if isinstance(thread.step, Sleep):
            outcome = thread.runner.wake.acquire(blocking=False)
        elif isinstance(thread.step, CoreRequest):
            thread.step.wait()
        self._go_on(thread, outcome)

    def finish(self, runner: SimulatedRunner, failure: Exception | None = None) -> None:
        """Let the engine answer the batch that a runner runs."""
        batch = runner.batch
        assert batch is not None
        self._go_on(runner, failure or engine(np.concatenate(batch.arrays)))

    def settle_threads(self) -> None:
        """Let every thread step that can, until none can."""
        while ready := [one for one in self.threads() if self.can_step(one)]:
            self.take_step(ready[0])

    def forget_done(self) -> None:
        self.requests = [request for request in self.requests if not request.done]

    def _go_on(self, runner: SimulatedRunner, outcome: StepOutcome) -> None:
        runner.step, runner.sleeps_until = None, math.inf
        try:
            step = runner.life.send(outcome)
        except StopIteration:
            return
        finally:
            self.release_locks()
        runner.step = step
        if isinstance(step, Sleep):
            runner.sleeps_until = self.now + step.seconds
        elif isinstance(step, Batch):
            for owner in step.owners:
                assert owner.state is EntryState.WAITING, "none runs after its end"
                assert owner.deadline > self.now, "none runs after its deadline"
            self.rows_run += step.rows

    def _end_wait(self, request: Request) -> None:
        entry = request.entry
        if not entry.settled.acquire(blocking=False):
            self.drop(request, EntryState.EXPIRED)
            assert entry.settled.acquire(blocking=False)
        request.done = True
        assert entry.state is not EntryState.WAITING
        if not request.answered:
            return
        result = entry.result()
        ids = np.array(request.ids, np.float32)[:, None]
        np.testing.assert_array_equal(result.outputs[0], ids)
        np.testing.assert_array_equal(result.outputs[1], 2 * ids)
        assert sum(result.batch_sizes) >= len(ids)
        assert result.queue_seconds >= 0
        assert entry.ended_at < request.deadline, "none is answered after its deadline"

    def _note_quiet(self) -> None:
        assert self.schedule.quiet
        self.quiet += 1


def run_open_loop(
    simulation: Simulation,
    arrivals: Sequence[float],
    *,
    timeout_seconds: float,
    cost_seconds: Callable[[SimulatedRunner], float],
    refusals: tuple[type[Exception], ...],
) -> list[Request]:
    """Let requests of one row arrive at given times, until all are done.

    Args:
        simulation: Where they arrive.
        arrivals: When, in ascending order.
        timeout_seconds: How long each allows for its answer.
        cost_seconds: How long the engine takes for the batch that a runner runs.
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
