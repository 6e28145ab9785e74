"""Rehearsals: an unknown network is loaded and run once in a process where it can do no harm.

What a network takes while it is loaded and run cannot be read from its file: a few nodes can fill
any memory, in the middle of ONNX Runtime, where nothing stops them but the end of the process.
"""

import json
import select
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.contained import ContainedFolder
from convd.runtime.errors import SessionError

_GIBIBYTE = 1024**3

ALTERED, MEMORY = "altered", "memory"
"""What the process answers if it did not run the network as it should."""

_LATE = "late"


class Order(NamedTuple):
    """What a process has to do.

    Attributes:
        path: The artifact's folder.
        bound: What nothing in it may lead out of.
        top: The repository.
        checksum: SHA-256 of its ONNX file.
        image_shape: Height, width and channels of its input.
        memory_bytes: What the process may take besides what it has already.
    """

    path: str
    bound: str
    top: str
    checksum: str
    image_shape: Sequence[int]
    memory_bytes: int


class Rehearsals:
    """Rehearses networks, several at a time.

    Args:
        memory_bytes: Memory that a network may take while it is loaded and run once, besides three
            times its file.
        seconds: How long that may take.
    """

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        # A server has something to rehearse as soon as it has looked at its models.
        self._idle: deque[subprocess.Popen[bytes]] = deque([_start()])
        # Whoever is dropped without being closed leaves no process behind.
        weakref.finalize(self, _end_all, self._idle)

    def rehearse(self, folder: ContainedFolder, checksum: str, image_shape: Sequence[int]) -> None:
        """Load a network and run it once on the CPU, with one picture.

        Whether it runs on this machine at all, and what it answers, is for the self-test to say.

        Args:
            folder: The artifact's folder.
            checksum: SHA-256 of its ONNX file.
            image_shape: Height, width and channels of its input.

        Raises:
            SessionError: It takes too much time or memory.
        """
        try:
            process = self._idle.pop()
        except IndexError:
            process = _start()
        memory_bytes = self._memory_bytes + 3 * (folder.path / MODEL_FILE).stat().st_size
        where = (str(folder.path), str(folder.bound), str(folder.top))
        answer = self._ask(process, Order(*where, checksum, image_shape, memory_bytes))
        if answer is not None and not answer:
            self._idle.append(process)
            return
        process.kill()
        _end(process)
        if answer is None and process.returncode == 0:
            raise SessionError("the process in which networks are tried ended unexpectedly")
        if answer == ALTERED:
            raise SessionError(f"{MODEL_FILE} was altered while it was loaded")
        raise SessionError(
            f"the network was not loaded and run once within {self._seconds:g} s"
            if answer == _LATE
            else f"the network takes more than {self._memory_bytes / _GIBIBYTE:.3g} GiB of memory "
            "while it is loaded and run once, or more than this machine has (--load-memory-bytes)"
        )

    def close(self) -> None:
        """End the processes that have nothing to do."""
        _end_all(self._idle)

    def _ask(self, process: "subprocess.Popen[bytes]", order: Order) -> str | None:
        """What is wrong with a network, empty if nothing is; None if the process has died."""
        sender, answers = process.stdin, process.stdout
        assert sender is not None  # noqa: S101
        assert answers is not None  # noqa: S101
        try:
            sender.write(json.dumps(order).encode() + b"\n")
            sender.flush()
            ready, _, _ = select.select([answers], [], [], self._seconds)
        except BrokenPipeError:
            return None
        if not ready:
            return _LATE
        line = answers.readline()
        return str(json.loads(line)) if line else None


def _start() -> "subprocess.Popen[bytes]":
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        "from convd.runtime.rehearsal_process import main; main()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-B", "-c", program], **pipes)  # noqa: S603


def _end_all(processes: "deque[subprocess.Popen[bytes]]") -> None:
    while processes:
        _end(processes.pop())


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Close a process's pipes, at which it ends, and wait for that."""
    with process:
        pass
