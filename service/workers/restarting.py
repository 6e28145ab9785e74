"""Keeps one worker running: starts it again whenever it ends."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from prometheus_client import Metric

from convd.service.settings import ServerSettings
from convd.service.statistics import StatisticsByVersion
from convd.service.termination import CALLS_CUT
from convd.service.web.request import Request
from convd.service.web.response import Response
from convd.service.workers.control import SharedControl
from convd.service.workers.departed import DepartedCounts
from convd.service.workers.line import Line, LineClosedError, Responder
from convd.service.workers.worker import CANNOT_START, Report, run_worker

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
ANSWER_SECONDS = 2.0
START_SECONDS = 120.0
"""How long a worker may take to import its packages before it first answers."""

_MOST_FAILED_STARTS = 5

STABLE_SECONDS = 60.0
"""A worker that survived this long did not fail at startup, so the backoff is reset."""

# gRPC's threads do not survive a fork.
_PROCESSES = multiprocessing.get_context("spawn")


class RestartingWorker:
    """Runs a worker process, and starts a new one whenever it ends, after pauses that double.

    Args:
        number: Number of the worker, from 1.
        settings: The settings of the worker.
        cores: Number of cores for its sessions.
        control: Makes every worker load or unload a model.
        everyones_statistics: Returns the statistics of all workers together.

    Attributes:
        restarts: Number of restarts.
        gave_up: Why no further process is started; empty while workers can start.
        exit_code: Exit code of the last process; None before one has ended.
    """

    def __init__(
        self,
        number: int,
        settings: ServerSettings,
        cores: int,
        control: SharedControl,
        everyones_statistics: Callable[[], StatisticsByVersion],
    ) -> None:
        self.number = number
        self.restarts = 0
        self.gave_up = ""
        self.exit_code: int | None = None
        self._has_reported = False
        self._settings = settings
        self._cores = cores
        self._control = control
        self._everyones_statistics = everyones_statistics
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._report: Report | None = None
        self._departed = DepartedCounts()
        self._asked: Future[None] | None = None
        self._asked_at = 0.0
        self._died = ""
        self._process: Any = None
        self._thread = threading.Thread(target=self._keep_running, name=f"worker-{number}")

    def start(self) -> None:
        """Start the worker and keep it running."""
        self._thread.start()

    def drain(self) -> None:
        """Drain the worker, and do not restart it."""
        self._stop.set()
        with self._lock:
            line = self._line
        if line is not None:
            line.ask("drain")

    def has_cut_calls(self) -> bool:
        """Whether the last process ended before its calls did."""
        return self.exit_code is not None and (self.exit_code == CALLS_CUT or self.exit_code < 0)

    def look_now(self) -> None:
        """Have the worker look at the repository."""
        with self._lock:
            line = self._line
        if line is not None:
            line.ask("look")

    def kill(self) -> None:
        """End the worker at once, and start no other."""
        self._stop.set()
        if self._process is not None:
            self._process.kill()

    def kill_if_stuck(self, limit_seconds: float) -> None:
        """Kill a worker that is silent, or in one batch for too long; it is then restarted.

        Such a worker keeps its share of the connections, so it does more harm than a dead one.

        Args:
            limit_seconds: How long it may owe an answer.
        """
        with self._lock:
            if self._line is None:
                return
            process, report = self._process, self._report
            silent_seconds = 0.0
            if self._asked is not None and not self._asked.done():
                silent_seconds = time.monotonic() - self._asked_at
        if silent_seconds > (limit_seconds if report is not None else START_SECONDS):
            reason = f"it has not answered for {silent_seconds:.0f} s"
        elif report is not None and report.stuck_reason:
            reason = report.stuck_reason
        else:
            return
        logger.error("killing worker %d: %s", self.number, reason)
        process.kill()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the worker to end, and kill it after a timeout."""
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            logger.error("worker %d did not drain in time: killing it", self.number)
            self._process.kill()
            self._thread.join()

    def unready_reason(self) -> str:
        """Why the worker is not ready, according to its last report; empty if it is."""
        with self._lock:
            if self._asked is not None and not self._asked.done():
                silent_seconds = time.monotonic() - self._asked_at
                if silent_seconds > ANSWER_SECONDS:
                    return f"has not answered for {silent_seconds:.0f} s"
            if self._report is None:
                return self._died or "starting"
            return self._report.unready_reason

    def snapshots(self) -> list[list[Metric]]:
        """The metrics of its ended processes and of the running one."""
        with self._lock:
            return [self._departed.metrics, *([self._report.metrics] if self._report else [])]

    def statistics(self) -> list[StatisticsByVersion]:
        """The statistics of its ended processes and of the running one."""
        with self._lock:
            return [
                self._departed.statistics,
                *([self._report.statistics] if self._report else []),
            ]

    def ask_models(self, request: Request) -> "Future[Response]":
        """Make the worker answer a request over HTTP.

        If there is no process, or it ends before it answers, the exception is a LineClosedError.
        """
        with self._lock:
            line = self._line
        if line is None:
            refused: Future[Response] = Future()
            refused.set_exception(LineClosedError("the worker is not running"))
            return refused
        return line.ask("http", request)

    def ask_for_report(self) -> "Future[None] | None":
        """Request a report, unless one is outstanding; None if the worker is not running."""
        with self._lock:
            line = self._line
            if line is None or (self._asked is not None and not self._asked.done()):
                return self._asked
            taken: Future[None] = Future()
            self._asked, self._asked_at = taken, time.monotonic()

        def take(answer: "Future[Any]") -> None:
            if answer.exception() is None:
                self._take(line, answer.result())
            taken.set_result(None)

        line.ask("report").add_done_callback(take)
        return taken

    def _keep_running(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            started = time.monotonic()
            exit_code = self.exit_code = self._run_once()
            if self._stop.is_set():
                break
            if exit_code == CANNOT_START and self.restarts == 0:
                self.gave_up = "its log has the reason"
                break
            if not self._has_reported and self.restarts + 1 >= _MOST_FAILED_STARTS:
                self.gave_up = (
                    f"{_MOST_FAILED_STARTS} times it ended before it answered, last with exit "
                    f"code {exit_code}; its log may have the reason"
                )
                break
            if time.monotonic() - started > STABLE_SECONDS:
                pause_seconds = FIRST_PAUSE_SECONDS
            self._died = f"ended with exit code {exit_code} and is being restarted"
            logger.error(
                "worker %d ended with exit code %s after %.1f s; restarting it in %.1f s",
                self.number,
                exit_code,
                time.monotonic() - started,
                pause_seconds,
            )
            self._stop.wait(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            self.restarts += 1

    def _run_once(self) -> int | None:
        ours, theirs = _PROCESSES.Pipe()
        process = _PROCESSES.Process(
            target=run_worker,
            args=(self._settings, theirs, self._cores, self._control.held_back, self.number),
            name=f"worker-{self.number}",
            daemon=True,
        )
        process.start()
        # Otherwise the pipe would stay open when the worker ends.
        theirs.close()
        responders: dict[str, Responder] = {
            "farewell": lambda report: self._take(line, report),
            "everywhere": lambda order: self._control.carry_out(*order),
            "statistics": lambda _argument: self._everyones_statistics(),
            "comparisons": lambda _argument: self._control.comparisons(ANSWER_SECONDS),
        }
        line = Line(ours, responders)
        line.start()
        with self._lock:
            self._process, self._line = process, line
        self._control.add(line)
        logger.info("worker %d is process %d", self.number, process.pid)
        if self._stop.is_set():
            line.ask("drain")
        process.join()
        line.wait_closed()
        self._control.remove(line)
        with self._lock:
            if self._report is not None:
                self._departed.include(self._report)
            self._line = self._report = self._asked = None
        return process.exitcode

    def _take(self, line: Line, report: Report) -> None:
        with self._lock:
            # A report of an earlier process must not count for the current one.
            if self._line is line:
                self._report = report
                self._has_reported = True
