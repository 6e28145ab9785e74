"""The connection of the client commands: a channel to the server, and errors in plain words."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import grpc

from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

server_option = click.option(
    "--server",
    envvar="CONVD_SERVER",
    default="127.0.0.1:8001",
    show_default=True,
    help="Address of the server, HOST:PORT.",
)


@contextmanager
def connect(server: str) -> Iterator[ClassificationServiceStub]:
    """Open a channel; a failed RPC ends the command with the reason."""
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    with grpc.insecure_channel(server, options=options) as channel:
        try:
            yield ClassificationServiceStub(channel)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE and "connect" in (error.details() or ""):
                raise click.ClickException(
                    f"cannot connect to {server}: start a server with 'convd serve', or set "
                    "--server HOST:PORT"
                ) from error
            raise click.ClickException(f"{code.name}: {error.details()}") from error
