"""Servers that are killed, stopped and started again, each on ports of its own."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.envoy import Address
from testbed.server import ServerProcess, free_ports, server_process


class Fleet:
    """Servers with one repository.

    Args:
        repository: What they serve.
        logs: Where their logs go.
        count: How many.
        *flags: Further flags of `convd serve`.
        authority: The certificate (PEM) that their HTTPS is verified with; None for plain HTTP.
    """

    def __init__(
        self,
        repository: Path,
        logs: Path,
        count: int,
        *flags: object,
        authority: Path | None = None,
    ) -> None:
        ports = free_ports(2 * count)
        self.addresses = [Address(*pair) for pair in zip(ports[::2], ports[1::2], strict=True)]
        self._repository = repository
        self._logs = logs
        self._flags = flags
        self._authority = authority
        self._servers: dict[int, tuple[ServerProcess, contextlib.ExitStack]] = {}

    def __enter__(self) -> "Fleet":
        for number in range(len(self.addresses)):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._servers):
            self.kill(number)

    def __getitem__(self, number: int) -> ServerProcess:
        return self._servers[number][0]

    def start(self, number: int) -> None:
        """Start a server on its ports, and wait until it is ready."""
        address = self.addresses[number]
        ports = ("--grpc-port", address.grpc_port, "--http-port", address.http_port)
        log = self._logs / f"server-{address.grpc_port}-{time.monotonic_ns()}.log"
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(
                server_process(
                    self._repository, log, *self._flags, *ports, authority=self._authority
                )
            )
            self._servers[number] = server, stack.pop_all()

    def kill(self, number: int) -> None:
        """Kill a server with SIGKILL."""
        server, stack = self._servers.pop(number)
        server.process.kill()
        server.process.wait()
        stack.close()

    def restart(self, number: int) -> int:
        """Let a server drain and start it again; the exit code of the old one."""
        server, stack = self._servers.pop(number)
        code = server.terminate()
        stack.close()
        self.start(number)
        return code

    def answered(self) -> list[int]:
        """How many calls to classify each server has answered."""
        return [
            round(
                sum(
                    value
                    for labels, value in self[number].counted("convd_requests_total").items()
                    if "/Classify" in labels and 'code="OK"' in labels
                )
            )
            for number in range(len(self.addresses))
        ]

    @contextlib.contextmanager
    def slowed(
        self, number: int, *, stopped_seconds: float, running_seconds: float
    ) -> Iterator[None]:
        """Stop and continue a server in turns, so that it has a share of its time only."""
        process, ends = self[number].process, threading.Event()

        def alternate() -> None:
            while not ends.is_set():
                process.send_signal(signal.SIGSTOP)
                time.sleep(stopped_seconds)
                process.send_signal(signal.SIGCONT)
                time.sleep(running_seconds)

        thread = threading.Thread(target=alternate)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
