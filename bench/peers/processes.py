"""A server with all the processes that it starts: their time, their memory, and their end."""

import contextlib
import functools
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_MARK = "PEER_MARK"


@dataclass(frozen=True)
class Family:
    """A server's processes, which all carry its mark, also those that left its session.

    Attributes:
        process: The first of them.
        mark: In the environment of each.
        ready_seconds: From its start to its first correct answer.
    """

    process: "subprocess.Popen[bytes]"
    mark: str
    ready_seconds: float = 0.0

    def members(self) -> list[psutil.Process]:
        """Those that live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self.mark:
                    found.append(process)
        return found

    def cpu_seconds(self) -> float:
        """Processor time that they have used so far."""
        total = 0.0
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_bytes(self) -> int:
        """Their memory, with what they share counted once."""
        total = 0
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def stop(self) -> None:
        """Ask the first to end, and then end what is left."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


@contextlib.contextmanager
def family(
    command: Sequence[object],
    variables: Mapping[str, str],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    folder: Path | None = None,
    cores: set[int] | None = None,
) -> Iterator[Family]:
    """Run a server until the block ends; it begins with the server's first correct answer.

    Raises:
        SystemExit: It is not ready in time.
    """
    mark = uuid.uuid4().hex
    log.parent.mkdir(parents=True, exist_ok=True)
    pin = functools.partial(os.sched_setaffinity, 0, cores) if cores else None
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables, _MARK: mark},
            cwd=folder,
            preexec_fn=pin,
        )
    running = Family(process, mark)
    try:
        while not is_ready():
            if process.poll() is not None or time.monotonic() > started + START_SECONDS:
                raise SystemExit(f"{command[0]} did not become ready; see {log}")
            time.sleep(_POLL_SECONDS)
        yield Family(process, mark, time.monotonic() - started)
    finally:
        running.stop()
