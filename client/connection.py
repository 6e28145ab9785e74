"""How a server is reached: the one place that opens a channel to it."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from convd.client.address import DEFAULT_SERVER, is_loopback, parse_address
from convd.client.token_metadata import TokenInterceptor, async_token_interceptors

logger = logging.getLogger(__name__)

_MEBIBYTE = 1024 * 1024

# Only what the server has not begun is tried again: it answers UNAVAILABLE before any work, and a
# connection that breaks in the middle of a call repeats a question that changes nothing.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "convd.v1.ClassificationService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # While most calls fail, retries would only add to the load.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


@dataclass(frozen=True)
class Tls:
    """What encrypts a connection and proves both ends; all of it PEM.

    Attributes:
        ca: The authorities that may have signed the server's certificate; None for the system's.
        certificate: The client's own certificate chain, for a server that asks for one.
        key: The private key of that certificate.
        server_name: The name in the server's certificate, if it is not the host's.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate and its key go together: give both or neither")

    @classmethod
    def from_files(
        cls,
        ca: Path | str | None = None,
        certificate: Path | str | None = None,
        key: Path | str | None = None,
        server_name: str | None = None,
    ) -> "Tls":
        """Read the files.

        Raises:
            OSError: One of them cannot be read.
            ValueError: A certificate is given without its key, or a key without its certificate.
        """
        ca_pem, certificate_pem, key_pem = (
            None if path is None else Path(path).read_bytes() for path in (ca, certificate, key)
        )
        return cls(ca_pem, certificate_pem, key_pem, server_name)


@dataclass(frozen=True)
class Connection:
    """Where a server is, and how to reach it.

    Attributes:
        server: Its address, HOST:PORT; see `convd.client.address`.
        tls: Encrypts the connection; None for plain text.
        token: A bearer token, sent with every call.
        max_message_bytes: Largest message, sent or received.
        keepalive_seconds: How often an idle connection with calls in progress is probed; None for
            gRPC's default of never. A server ends connections that probe more often than it allows.
    """

    server: str = DEFAULT_SERVER
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)
    max_message_bytes: int = 64 * _MEBIBYTE
    keepalive_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token has characters that a header cannot carry")
        target = self.target
        if self.token is not None and self.tls is None and not is_loopback(target):
            logger.warning("the token is sent to %s unencrypted: use TLS", target)

    @property
    def target(self) -> str:
        """What gRPC connects to.

        Raises:
            ValueError: The server's address cannot be read.
        """
        return parse_address(self.server)

    def open(self, *more_options: tuple[str, object]) -> grpc.Channel:
        """Open a channel; it connects with its first call.

        Args:
            *more_options: gRPC channel arguments, besides those that every channel has.
        """
        options = [*self._options(), *more_options]
        credentials = self._credentials()
        if credentials is None:
            channel = grpc.insecure_channel(self.target, options)
        else:
            channel = grpc.secure_channel(self.target, credentials, options)
        if self.token is None:
            return channel
        return grpc.intercept_channel(channel, TokenInterceptor(self.token))

    def open_async(self, *more_options: tuple[str, object]) -> grpc.aio.Channel:
        """Open a channel for asyncio; it connects with its first call.

        Args:
            *more_options: gRPC channel arguments, besides those that every channel has.
        """
        options = [*self._options(), *more_options]
        interceptors: Any = None if self.token is None else async_token_interceptors(self.token)
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options, interceptors=interceptors)
        return grpc.aio.secure_channel(self.target, credentials, options, interceptors=interceptors)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls is None:
            return None
        return grpc.ssl_channel_credentials(self.tls.ca, self.tls.key, self.tls.certificate)

    def _options(self) -> list[tuple[str, object]]:
        options: list[tuple[str, object]] = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.service_config", json.dumps(_RETRIES)),
            # A larger message than this is not tried again.
            ("grpc.per_rpc_retry_buffer_size", self.max_message_bytes),
            # By default gRPC waits up to two minutes before it looks for a server that came back.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5000),
        ]
        if self.keepalive_seconds is not None:
            options.append(("grpc.keepalive_time_ms", round(1000 * self.keepalive_seconds)))
        if self.tls is not None and self.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options
