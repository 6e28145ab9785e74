"""What gRPC itself logs about calls: at most one line of each kind per second.

A client can make gRPC log as often as it likes, with bytes that are not text in its metadata for
example, and must not fill the disk that way.
"""

import logging
import time

_GRPC_LOGGERS = ("grpc._cython.cygrpc", "grpc._server", "grpc._common")
_PAUSE_SECONDS = 1.0


class SparseLines(logging.Filter):
    """Lets one record of each place in the code pass per second, and counts the others.

    Bytes that are not text are left out, and their traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, int], float] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes."""
        kind = record.name, record.lineno
        now = time.monotonic()
        if now - self._passed.get(kind, -_PAUSE_SECONDS) < _PAUSE_SECONDS:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return False
        self._passed[kind] = now
        if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
            # gRPC's own line has the bytes, which may be a token with one letter more.
            record.msg, record.args = "a client sent metadata that is not text", ()
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = None
        held_back = self._held_back.pop(kind, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} similar lines were left out)"
            record.args = ()
        return True


_sparse_lines = SparseLines()


def thin_out_transport_log() -> None:
    """Bound what gRPC logs in this process."""
    for name in _GRPC_LOGGERS:
        logging.getLogger(name).addFilter(_sparse_lines)
