"""What the batcher tells the traces of its entries."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import EntryTrace
from convd.service.errors import InferenceFailedError


class Recorder:
    """Notes the batches that it surrounded and those that it was a member of."""

    def __init__(self) -> None:
        self.led: list[tuple[int, int]] = []
        self.ended = 0

    @contextmanager
    def batch(self, traces: Sequence[EntryTrace], rows: int) -> Iterator[None]:
        try:
            yield
        finally:
            self.led.append((len(traces), rows))
            for trace in traces:
                assert isinstance(trace, Recorder)
                trace.ended += 1


def echo(rows: Rows) -> Outputs:
    return (rows.astype(np.float32).reshape(len(rows), -1),)


def some_rows(count: int) -> Rows:
    return np.zeros((count, 2, 2, 1), np.uint8)


def test_a_lone_entry_is_surrounded() -> None:
    trace = Recorder()
    Batcher(Engine(echo, max_batch_size=4), max_queue_size=8).submit(some_rows(3), trace=trace)
    assert (trace.led, trace.ended) == ([(1, 3)], 1)


def test_an_entry_that_is_split_is_in_each_of_its_batches() -> None:
    trace = Recorder()
    Batcher(Engine(echo, max_batch_size=4), max_queue_size=20).submit(some_rows(10), trace=trace)
    assert trace.led == [(1, 4), (1, 4), (1, 2)]


def test_a_batch_knows_its_traced_entries_and_tells_them_before_they_are_answered() -> None:
    batcher = Batcher(
        Engine(echo, max_batch_size=4), max_queue_size=8, max_queue_delay_seconds=100.0
    )
    traces = [Recorder() for _ in range(3)]
    ended_when_answered: list[int] = []

    def submit(trace: Recorder | None) -> None:
        batcher.submit(some_rows(1), trace=trace)
        if trace is not None:
            ended_when_answered.append(trace.ended)

    threads = [threading.Thread(target=submit, args=(trace,)) for trace in (*traces, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended_when_answered == [1, 1, 1]
    assert [led for trace in traces for led in trace.led] == [(3, 4)]


def test_a_failure_passes_through_the_trace() -> None:
    def fail(_: Rows) -> Outputs:
        raise ValueError("broken")

    trace = Recorder()
    with pytest.raises(InferenceFailedError):
        Batcher(Engine(fail, max_batch_size=4), max_queue_size=8).submit(some_rows(1), trace=trace)
    assert trace.ended == 1
