"""How the client commands reach a server: the same options, and failures in plain words."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from convd.client.client import Client
from convd.client.connection import Connection, Tls
from convd.client.errors import (
    CannotConnectError,
    ClientError,
    DeadlineError,
    UnauthorizedError,
    UnavailableError,
)
from convd.commands import exit_codes

_FILE = click.Path(dir_okay=False, path_type=Path)

_OPTIONS = (
    click.option(
        "--server",
        envvar="CONVD_SERVER",
        default="127.0.0.1:8001",
        show_default=True,
        help="Address of the server, HOST:PORT.",
    ),
    click.option("--tls", is_flag=True, envvar="CONVD_CLIENT_TLS", help="Connect with TLS."),
    click.option(
        "--tls-ca",
        type=_FILE,
        envvar="CONVD_CLIENT_TLS_CA",
        help="Authorities that may sign the server's certificate (PEM) [default: the system's].",
    ),
    click.option(
        "--tls-certificate",
        type=_FILE,
        envvar="CONVD_CLIENT_TLS_CERTIFICATE",
        help="The client's own certificate (PEM).",
    ),
    click.option(
        "--tls-key",
        type=_FILE,
        envvar="CONVD_CLIENT_TLS_KEY",
        help="The private key of --tls-certificate (PEM).",
    ),
    click.option(
        "--tls-server-name",
        envvar="CONVD_CLIENT_TLS_SERVER_NAME",
        help="The name in the server's certificate, if it is not the host's.",
    ),
    click.option(
        "--token-file",
        type=_FILE,
        envvar="CONVD_CLIENT_TOKEN_FILE",
        help="File with the bearer token to send [default: the variable CONVD_TOKEN].",
    ),
)


def connection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; its function gets a `connection`."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        names = (
            "server",
            "tls",
            "tls_ca",
            "tls_certificate",
            "tls_key",
            "tls_server_name",
            "token_file",
        )
        chosen = {name: options.pop(name) for name in names}
        return function(*arguments, connection=_connection(**chosen), **options)

    return functools.reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def _connection(
    *,
    server: str,
    tls: bool,
    tls_ca: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_server_name: str | None,
    token_file: Path | None,
) -> Connection:
    try:
        encryption = None
        if tls or tls_ca or tls_certificate or tls_key or tls_server_name:
            encryption = Tls.from_files(tls_ca, tls_certificate, tls_key, tls_server_name)
        if token_file is None:
            token = os.environ.get("CONVD_TOKEN") or None
        else:
            token = token_file.read_text(encoding="utf-8").strip()
        return Connection(server, tls=encryption, token=token)
    except OSError as error:
        raise click.UsageError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def connect(connection: Connection) -> Iterator[Client]:
    """Open a client; a failed call ends the command with the reason and its exit code."""
    try:
        with Client(connection) as client:
            yield client
    except ClientError as error:
        connected = not isinstance(error, CannotConnectError)
        text = f"{error.code}: {error.message}" if connected else error.message
        if isinstance(error, UnavailableError | DeadlineError):
            raise ServerUnavailable(text) from error
        if isinstance(error, UnauthorizedError):
            raise CallNotAllowed(text) from error
        raise click.ClickException(text) from error


class ServerUnavailable(click.ClickException):
    """The server cannot be reached, or cannot answer now."""

    exit_code = exit_codes.UNAVAILABLE


class CallNotAllowed(click.ClickException):
    """The server does not know the caller, or does not allow the call."""

    exit_code = exit_codes.NOT_ALLOWED
