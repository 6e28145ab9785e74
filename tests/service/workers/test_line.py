import multiprocessing
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from convd.service.workers.line import Line, LineClosedError


def lines(answers: Mapping[str, Any]) -> tuple[Line, Line, threading.Event]:
    one, other = multiprocessing.Pipe()
    closed = threading.Event()
    asking, answering = Line(one, {}, on_close=closed.set), Line(other, answers)
    asking.start()
    answering.start()
    return asking, answering, closed


def test_questions_are_answered_though_another_takes_long() -> None:
    go = threading.Event()
    asking, _, _ = lines({"slow": lambda _: go.wait(10), "double": lambda number: 2 * number})
    slow = asking.ask("slow")
    assert asking.ask("double", 21).result(10) == 42
    assert not slow.done()
    go.set()
    assert slow.result(10) is True


def test_an_error_travels_back() -> None:
    asking, _, _ = lines({"divide": lambda number: 1 / number})
    with pytest.raises(ZeroDivisionError):
        asking.ask("divide", 0).result(10)


def test_whoever_waits_hears_that_the_other_end_has_gone() -> None:
    go = threading.Event()
    one, other = multiprocessing.Pipe()
    closed = threading.Event()
    asking = Line(one, {}, on_close=closed.set)
    asking.start()
    waiting = asking.ask("anything")
    other.close()
    with pytest.raises(LineClosedError):
        waiting.result(10)
    assert closed.wait(10)
    with pytest.raises(LineClosedError):
        asking.ask("more").result(10)
    go.set()
