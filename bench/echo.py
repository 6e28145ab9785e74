"""A bare `grpc.server` that returns the bytes it gets: the transport's own limit."""

import contextlib
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from testbed.server import ServerProcess, launched

THREADS = 16
_PORT = re.compile(r"echo on \S+:(?P<grpc>\d+)")


@contextlib.contextmanager
def echoing(log: Path, *, cores: set[int] | None = None) -> Iterator[ServerProcess]:
    """Run this server in a process of its own until the block ends.

    Args:
        log: Where its log goes.
        cores: The cores that it may run on; None for all.
    """
    with launched(["-m", "bench.echo"], log, _PORT, cores=cores) as server:
        yield server


class _Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def service(
        self,
        handler_call_details: grpc.HandlerCallDetails,  # noqa: ARG002
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return grpc.unary_unary_rpc_method_handler(_return)


def _return(request: bytes, context: grpc.ServicerContext) -> bytes:  # noqa: ARG001
    return request


def main() -> None:
    """Serve until SIGTERM."""
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[_Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"echo on 127.0.0.1:{port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
