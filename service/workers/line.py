"""The line between the supervisor and a worker: either side can ask the other."""

import itertools
import logging
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

logger = logging.getLogger(__name__)

Responder = Callable[[Any], Any]


class LineClosedError(Exception):
    """The process at the other end has ended."""


class Line:
    """Exchanges questions and answers over a pipe between two processes of the same program.

    Args:
        connection: One end of the pipe.
        responders: For each question that the other end may ask, the function that answers it.
        on_close: Called once when the other end has closed.
    """

    def __init__(
        self,
        connection: Connection,
        responders: Mapping[str, Responder],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._responders = responders
        self._on_close = on_close
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Any]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="worker-line", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def wait_closed(self) -> None:
        """Wait until the other end has closed and everything that it sent has been read."""
        self._thread.join()

    def ask(self, question: str, argument: object = None) -> "Future[Any]":
        """Ask the other end; the future gets its answer or exception.

        If the other end closes before it answers, the exception is a LineClosedError.
        """
        answer: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._closed:
                answer.set_exception(LineClosedError(question))
                return answer
            self._asked[number] = answer
        self._send("question", number, (question, argument))
        return answer

    def _send(self, kind: str, number: int, content: object) -> None:
        try:
            with self._lock:
                self._connection.send((kind, number, content))
        except OSError:
            self._close()

    def _read(self) -> None:
        while True:
            try:
                kind, number, content = self._connection.recv()
            except (EOFError, OSError):
                self._close()
                return
            if kind == "question":
                # A slow answer must not delay the others.
                threading.Thread(
                    target=self._answer, args=(number, *content), name="worker-answer", daemon=True
                ).start()
            else:
                self._hear(kind, number, content)

    def _hear(self, kind: str, number: int, content: Any) -> None:  # noqa: ANN401
        with self._lock:
            asked = self._asked.pop(number, None)
        if asked is None:
            return
        if kind == "answer":
            asked.set_result(content)
        else:
            asked.set_exception(content)

    def _answer(self, number: int, question: str, argument: object) -> None:
        try:
            answer = self._responders[question](argument)
        except Exception as error:
            logger.debug("the question %s failed", question, exc_info=True)
            self._send("error", number, _portable(error))
        else:
            self._send("answer", number, answer)

    def _close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            asked, self._asked = self._asked, {}
        for number, answer in asked.items():
            answer.set_exception(LineClosedError(f"question {number} was not answered"))
        self._on_close()


def _portable(error: Exception) -> Exception:
    """Replace an exception that cannot be pickled by a RuntimeError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what this process has just written
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
