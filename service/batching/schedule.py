"""The schedule: what happens to a request from its arrival to its answer, and what runners do.

All transitions are here, and nothing else: no thread waits, no lock is taken, and no engine runs.
`Batcher` drives it with threads under one lock; tests drive the same code in simulated time, in any
interleaving. Which threads can go on it says in `queue.locks`: a thread that is woken may run at
once, on the core of the one that wakes it, so they are woken after the lock is given up. Otherwise
every arriving request would queue behind it.

A request arrives, waits in the queue, is collected into batches, and is settled: answered, failed,
cancelled, expired or refused. There is one path for every request. A runner takes all that waits,
up to `max_batch_size`, as soon as it is free, so batches grow by themselves as load grows, and
nothing sleeps on a timer unless `max_queue_delay_seconds` asks for it.
"""

import math
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass

from convd.runtime.cores import CoreAccount, CoreRequest
from convd.runtime.idleness import Idleness
from convd.service.batching.engine import Engine, Outputs
from convd.service.batching.entry import Batch, Entry, EntryState, Priority
from convd.service.batching.idle_work import IdleWork
from convd.service.batching.planning import check_deadline, plan_next_batch
from convd.service.batching.runners import Phase, Runner, Runners
from convd.service.batching.waiting_queue import WaitingQueue
from convd.service.errors import QueueFullError, UnavailableError


@dataclass(frozen=True, slots=True)
class Sleep:
    """Sleep on `wake` until woken, or for some time; the answer says whether it was woken."""

    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Let other threads run once."""


Step = Sleep | GiveWay | CoreRequest | Batch
"""What a runner does without the lock; a `CoreRequest` is waited for, a `Batch` is run."""

StepOutcome = bool | Outputs | BaseException | None
"""What came of it: of a `Sleep` whether it was woken, of a `Batch` its outputs or its failure."""

SMALL_BATCH_INTERVAL_SECONDS = 0.012
"""While others have all cores, small batches of a model begin at least so far apart. Requests of a
small network otherwise interrupt the large ones as often as their callers like: not by what they
compute, but by all that a server does for a request."""

_DRAINING = "the model is about to be unloaded: try again"
_SLEEP = Sleep()
_GIVE_WAY = GiveWay()


class Schedule:
    """Admits requests, and says what runners do.

    While rows wait, a runner of the chosen engine is on its way to them, or every one of them runs
    a batch and will look again when it ends.

    Args:
        engine: What runs the batches.
        instances: What runs them while requests are many, a core each; None for the same engine.
        max_queue_size: Maximum rows that wait while no runner is free.
        max_queue_delay_seconds: How long rows may wait for others to join them; 0 for not at all,
            as it has to be where there are instances.
        clock: A monotonic clock, in seconds.
        on_quiet: Called when nothing waits or runs, and nothing will.

    Attributes:
        queue: The rows that wait.
        idle_work: Rows of low priority.
        runners: What runs them.
        accepting: Whether arrivals are admitted.
        company: Whether the last batch had rows of several requests, or left some waiting. More
            requests are then likely to follow, so it pays to give way before a batch is formed.
    """

    def __init__(
        self,
        engine: Engine,
        instances: Engine | None = None,
        *,
        max_queue_size: int,
        max_queue_delay_seconds: float = 0.0,
        clock: Callable[[], float],
        on_quiet: Callable[[], object] = lambda: None,
    ) -> None:
        if min(max_queue_size, max_queue_delay_seconds) < 0:
            raise ValueError("max_queue_size and max_queue_delay_seconds have to be 0 or more")
        if instances is not None and max_queue_delay_seconds:
            raise ValueError("instances and max_queue_delay_seconds exclude each other")
        self.queue = WaitingQueue()
        # Models on the same cores give way to each other's requests.
        self._idleness = engine.cores.budget.idleness if engine.cores else Idleness()
        self.idle_work = IdleWork(self._idleness)
        self.runners = Runners(engine, instances)
        self.accepting = True
        self.company = False
        self.max_queue_size = max_queue_size
        self._max_queue_delay_seconds = max_queue_delay_seconds
        self._clock = clock
        self._on_quiet = on_quiet
        self._closed = False
        self._account = CoreAccount()
        self._next_small_batch_at = -math.inf

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or runs, and nothing will."""
        return not (self.accepting or self.queue.waiting_rows or self.runners.running())

    def check(self, size: int, now: float, deadline: float, priority: Priority) -> None:
        """Refuse a request that could not be answered if it arrived now.

        Estimates never shut an idle model: a request that need not wait behind others is admitted
        whatever its cost is expected to be, and so measures the engine again.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        self._check_room(size)
        if deadline == math.inf:
            return
        runners = self.runners
        engine = runners.choose(self.queue.waiting_requests + 1)
        if not self.queue.waiting_rows and runners.can_start(engine):
            return
        check_deadline(
            self.queue,
            (deadline, size),
            priority,
            now,
            runners.ready_times(engine, now),
            engine.max_batch_size,
            lambda rows: runners.wait_seconds + engine.costs.expected_seconds(rows),
        )

    def arrive(self, entry: Entry, *, admitted: bool = False) -> None:
        """Let an entry wait, and wake a runner for it.

        Args:
            entry: The entry.
            admitted: Whether `check` has admitted it already; then only its room is checked.

        Raises:
            UnavailableError: Draining or closed.
            QueueFullError: The rows do not fit.
            DeadlineExceededError: There is no time left to answer.
        """
        queue = self.queue
        if entry.priority is Priority.LOW:
            self._arrive_idle(entry)
            return
        if entry.deadline < math.inf and not admitted:
            self.check(entry.size, entry.arrived_at, entry.deadline, entry.priority)
        elif not self.accepting or queue.waiting_rows + entry.size > self.max_queue_size:
            self._check_room(entry.size)
        queue.push(entry)
        if self._idleness.running:
            self._idleness.interrupt(entry.arrived_at)
        only = self.runners.only
        if only is None:
            self._call_runners()
        elif only.phase is Phase.ASLEEP or (
            only.phase is not Phase.RUNNING and self._ends_wait(only)
        ):
            self._wake(only)

    def drop(self, entry: Entry, state: EntryState) -> None:
        """Settle an entry that ends before its answer; does nothing once it is settled.

        Args:
            entry: An entry that has arrived.
            state: CANCELLED or EXPIRED.
        """
        if entry.priority is Priority.LOW:
            self.idle_work.forget(entry)
        self.queue.drop(entry, state, self._clock())
        self._check_quiet()

    def drain(self) -> None:
        """Refuse arrivals from now on; those that wait are answered."""
        self.accepting = False
        now = self._clock()
        for entry in self.idle_work.take_all():
            self.queue.drop(entry, EntryState.REFUSED, now)
        # While draining, do not wait for requests that will never arrive.
        gathering = self.runners.gathering()
        if gathering is not None:
            self._wake(gathering)
        self._check_quiet()

    def close(self) -> None:
        """Refuse arrivals and those that wait; runners end, each after the batch that it runs."""
        self.drain()
        self._closed = True
        now = self._clock()
        for entry in list(self.queue.in_order()):
            self.queue.drop(entry, EntryState.REFUSED, now)
        for runner in self.runners.all:
            if runner.phase is Phase.ASLEEP:
                self._wake(runner)
        self._check_quiet()

    def life(self, runner: Runner) -> Generator[Step, StepOutcome, None]:
        """What a runner does, step by step, until the schedule is closed.

        Between two steps the lock is held; during a step it is not.
        """
        while not self._closed:
            runner.phase = Phase.ASLEEP
            if not self.accepting:
                self._check_quiet()
            if self.idle_work.waiting and runner is self.runners.all[0]:
                seconds = self.idle_work.seconds_to_wait(self._clock())
                yield from self._doze(runner, Phase.ASLEEP, seconds)
            else:
                yield _SLEEP
            while True:
                if not (self.queue.waiting_rows and (self.runners.only or self._may_take(runner))):
                    if self.idle_work.waiting and (yield from self._run_idle(runner)):
                        continue
                    break
                if self._max_queue_delay_seconds:
                    yield from self._gather(runner)
                engine = runner.engine
                if engine.cores is not None:
                    if self.queue.waiting_rows > engine.small_rows:
                        yield from self._ask_for_cores(runner)
                    elif runner.cores is None and not engine.cores.is_free:
                        yield from self._pause(runner)
                if self.company:
                    # Threads that are about to bring rows often wait for the core, or for the
                    # interpreter's lock, that this one holds: one turn of theirs makes a batch of
                    # many.
                    yield _GIVE_WAY
                batch = self._collect(runner)
                if batch is not None:
                    self._finish(runner, batch, (yield batch))
                    # Or its outputs would stay until the next batch.
                    batch = None
            if runner.cores is not None:
                self._release_cores(runner)

    def _arrive_idle(self, entry: Entry) -> None:
        if not self.accepting:
            raise UnavailableError(_DRAINING)
        self.idle_work.push(entry)
        runner = self.runners.all[0]
        if runner.phase is Phase.ASLEEP:
            self._wake(runner)

    def _run_idle(self, runner: Runner) -> Generator[Step, StepOutcome, bool]:
        """Run a batch of low priority if there is nothing else to do; whether to look again."""
        work = self.idle_work
        if runner is not self.runners.all[0] or self.runners.running() or self.queue.waiting_rows:
            return False
        if work.seconds_to_wait(self._clock()) > 0:
            return False
        if runner.engine.cores is not None:
            yield from self._ask_for_cores(runner)
        runner.since = now = self._clock()
        if self.queue.waiting_rows or work.seconds_to_wait(now) > 0:
            return True
        engine = runner.engine
        batch, late = work.begin(now, engine.costs.expected_seconds, engine.max_batch_size)
        for entry in late:
            self.queue.drop(entry, EntryState.EXPIRED, now)
        if batch is None:
            return True
        runner.phase, runner.rows = Phase.RUNNING, batch.rows
        outcome = yield batch
        now = self._clock()
        runner.phase = Phase.AWAKE
        runner.computed_seconds += now - runner.since
        if work.end(batch, outcome):
            self._settle(batch, outcome, now - runner.since, now)
        return True

    def _check_room(self, size: int) -> None:
        if not self.accepting:
            raise UnavailableError(_DRAINING)
        waiting_rows = self.queue.waiting_rows
        if waiting_rows + size <= self.max_queue_size:
            return
        free_rows = self.runners.free_rows(self.runners.choose(self.queue.waiting_requests + 1))
        # A lone request of any size is taken by a free runner, part by part.
        if not waiting_rows and free_rows:
            return
        if waiting_rows + size > self.max_queue_size + free_rows:
            raise QueueFullError(
                f"{waiting_rows} rows wait and at most {self.max_queue_size} may: no room for "
                f"{size} more. Try again after a pause, or raise max_queue_size"
            )

    def _call_runners(self) -> None:
        """Wake runners until there is one on its way for each request, or all are awake."""
        runners = self.runners
        runners.engine = runners.choose(self.queue.waiting_requests)
        for runner in runners.all:
            if self._ends_wait(runner):
                self._wake(runner)
        self._wake_sleeping()

    def _wake_sleeping(self) -> None:
        requests = self.queue.waiting_requests
        while (sleeping := self.runners.next_to_wake(requests)) is not None:
            self._wake(sleeping)

    def _wake(self, runner: Runner) -> None:
        """Wake a runner that is asleep or gathers."""
        runner.phase = Phase.AWAKE
        self.queue.locks.append(runner.wake)

    def _may_take(self, runner: Runner) -> bool:
        """Whether the rows that wait are for this runner."""
        runners = self.runners
        runners.engine = runners.choose(self.queue.waiting_requests)
        if runner.engine is not runners.engine:
            self._call_runners()
            return False
        # The one that gathers takes what waits, and calls the others for the rest.
        return runners.gathering() is None

    def _ends_wait(self, runner: Runner) -> bool:
        """Whether a runner that gathers or pauses has to go on because of what arrived."""
        if runner.phase is Phase.GATHERING:
            return self._batch_is_full(runner)
        return runner.phase is Phase.PAUSING and self._latest_start(runner) < runner.since

    def _latest_start(self, runner: Runner) -> float:
        """When a batch of all that waits has to begin to keep every deadline."""
        seconds = runner.engine.costs.expected_seconds(self.queue.waiting_rows)
        return self.queue.earliest_deadline - seconds

    def _batch_is_full(self, runner: Runner) -> bool:
        return self.queue.waiting_rows >= runner.engine.max_batch_size

    def _gather(self, runner: Runner) -> Generator[Step, StepOutcome, None]:
        """Let more rows arrive for as long as the oldest may wait."""
        self._release_cores(runner)
        if not self.accepting or self._batch_is_full(runner):
            return
        ends_at = self.queue.oldest_arrival() + self._max_queue_delay_seconds
        seconds = min(ends_at, self.queue.earliest_deadline) - self._clock()
        if seconds <= 0:
            return
        yield from self._doze(runner, Phase.GATHERING, seconds)

    def _pause(self, runner: Runner) -> Generator[Step, StepOutcome, None]:
        """Leave the cores to the models that compute, until the next small batch may begin."""
        runner.since = self._next_small_batch_at
        seconds = min(runner.since, self._latest_start(runner)) - self._clock()
        if seconds > 0:
            yield from self._doze(runner, Phase.PAUSING, seconds)

    def _doze(
        self, runner: Runner, phase: Phase, seconds: float
    ) -> Generator[Step, StepOutcome, None]:
        """Sleep for some time, or until woken."""
        runner.phase = phase
        woken = yield Sleep(seconds)
        if not woken and runner.phase is Phase.AWAKE:
            # Woken just as the time was up.
            runner.wake.acquire()
        runner.phase = Phase.AWAKE

    def _ask_for_cores(self, runner: Runner) -> Generator[Step, StepOutcome, None]:
        """Wait for the cores of the next batch; those of the last one are given up for them."""
        share = runner.engine.cores
        assert share is not None, "an engine that needs cores has a share of them"  # noqa: S101
        if runner.cores is None:
            runner.cores = share.budget.request(self._account, share.threads)
        else:
            runner.cores = share.budget.renew(runner.cores, runner.computed_seconds)
        runner.computed_seconds = 0.0
        if runner.cores.granted:
            self.runners.note_wait(0.0)
            return
        runner.since = self._clock()
        runner.phase = Phase.IN_LINE
        yield runner.cores
        runner.phase = Phase.AWAKE
        self.runners.note_wait(self._clock() - runner.since)

    def _release_cores(self, runner: Runner) -> None:
        request, runner.cores = runner.cores, None
        if request is not None and runner.engine.cores is not None:
            runner.engine.cores.budget.release(request, runner.computed_seconds)
            runner.computed_seconds = 0.0

    def _collect(self, runner: Runner) -> Batch | None:
        """Form the batch that a runner runs now; None if there is nothing for it any more."""
        queue, runners, engine = self.queue, self.runners, runner.engine
        if not queue.waiting_rows:
            # While it waited, all others have left or have been served.
            return None
        now = self._clock()
        max_rows = engine.max_batch_size
        if runners.only is None:
            max_rows = runners.most_rows(runner, queue.waiting_rows)
        if engine.cores is not None and runner.cores is None:
            # More rows may have come since it found that a small batch need not ask for cores.
            max_rows = min(max_rows, engine.small_rows)
            if not max_rows:
                return None
            self._next_small_batch_at = now + SMALL_BATCH_INTERVAL_SECONDS
        rows, ends_at = min(queue.waiting_rows, max_rows), -math.inf
        if queue.earliest_deadline < math.inf:
            rows, ends_at = plan_next_batch(
                queue,
                now,
                max_rows,
                engine.costs.expected_seconds,
                runners.others_ready(runner, now),
            )
        batch = queue.collect(rows, ends_at, now)
        if not batch.rows:
            return None
        runner.phase = Phase.RUNNING
        runner.rows = batch.rows
        runner.since = now
        if queue.waiting_rows and runners.only is None:
            # The rest is for others of the same engine, which were told of fewer requests.
            self._wake_sleeping()
        return batch

    def _finish(self, runner: Runner, batch: Batch, outcome: StepOutcome) -> None:
        """Give everyone in a batch their answer or its failure."""
        self._idleness.busy_until = now = self._clock()
        seconds = now - runner.since
        runner.phase = Phase.AWAKE
        runner.computed_seconds += seconds
        self.company = len(batch.owners) > 1 or self.queue.waiting_rows > 0
        if not isinstance(outcome, BaseException):
            runner.engine.costs.observe(batch.rows, seconds)
        self._settle(batch, outcome, seconds, now)

    def _settle(self, batch: Batch, outcome: StepOutcome, seconds: float, now: float) -> None:
        if isinstance(outcome, BaseException):
            # Its frames hold the rows: they would live as long as the failure.
            traceback.clear_frames(outcome.__traceback__)
            self.queue.fail(batch, outcome, now)
        else:
            assert isinstance(outcome, tuple), "an engine answers with a tuple"  # noqa: S101
            self.queue.deliver(batch, outcome, seconds, now)
        # Entries keep the batch for its outputs: a cycle would be left to the garbage collector.
        batch.arrays.clear()
        batch.owners.clear()
        batch.traces.clear()

    def _check_quiet(self) -> None:
        if self.quiet:
            self._on_quiet()
