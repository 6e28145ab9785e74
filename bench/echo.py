"""A bare `grpc.server` that returns the bytes it gets: the transport's own limit."""

import signal
from concurrent.futures import ThreadPoolExecutor

import grpc

THREADS = 16


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
