"""How a server process ends: signals, the time that a drain may take, and the exit code."""

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

logger = logging.getLogger(__name__)

CALLS_CUT = 3
"""Exit code of a server whose drain ended before all accepted calls did."""

SIGNAL_LOOK_SECONDS = 0.2
"""Python runs signal handlers in the main thread, and a signal that the system gives to another
thread, or just before the main thread begins to wait, does not end its wait: it has to look."""

_LATE_SECONDS = 1.0
_VERY_LATE_SECONDS = 1.8


class Termination:
    """Waits for a signal, and sees to it that the process ends in time after it.

    SIGTERM and SIGINT ask for a drain; the second of them ends the process at once. SIGHUP has the
    repository looked at.

    Args:
        limit_seconds: What may pass between the first signal and the end; whatever still runs
            then, in Python or not, is cut a second or two later.
        on_hangup: Called on SIGHUP.
        on_second: Called on a second signal before the process ends; None where nothing has to be
            done, and the system ends the process by itself.
    """

    def __init__(
        self,
        limit_seconds: float,
        on_hangup: Callable[[], None],
        on_second: Callable[[], None] | None = None,
    ) -> None:
        self._limit_seconds = limit_seconds
        self._on_hangup = on_hangup
        self._on_second = on_second
        self._asked = threading.Event()

    def install(self) -> None:
        """Take the signals of this process; to be called in its main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup_signal)

    def ask(self) -> None:
        """End as if a signal had come."""
        self._asked.set()

    def asked(self, timeout_seconds: float) -> bool:
        """Wait for a time at most; whether the process should end."""
        return self._asked.wait(timeout_seconds)

    def wait(self) -> None:
        """Wait until the process should end; from then on its time runs."""
        while not self._asked.wait(SIGNAL_LOOK_SECONDS):
            pass
        self.limit()

    def limit(self) -> None:
        """End this process when its time is over, whatever it does then."""
        late = threading.Timer(self._limit_seconds + _LATE_SECONDS, self._end_late)
        late.daemon = True
        late.start()
        # A thread of C: it needs no interpreter, which something else may hold.
        faulthandler.dump_traceback_later(self._limit_seconds + _VERY_LATE_SECONDS, exit=True)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._asked.is_set() and self._on_second is not None:
            self._on_second()
            end_process(128 + number)
        if self._on_second is None:
            for again in (signal.SIGTERM, signal.SIGINT):
                signal.signal(again, signal.SIG_DFL)
        logger.info("received %s; another one ends the server at once", signal.Signals(number).name)
        self._asked.set()

    def _on_hangup_signal(self, _number: int, _frame: FrameType | None) -> None:
        logger.info("received SIGHUP: looking at the repository now; settings stay as they are")
        self._on_hangup()

    def _end_late(self) -> None:
        logger.error("stopped by force: the drain took longer than %g s", self._limit_seconds)
        end_process(CALLS_CUT)


def end_process(exit_code: int) -> None:
    """End this process now, without waiting for threads: gRPC's can wait for ever for a client."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
