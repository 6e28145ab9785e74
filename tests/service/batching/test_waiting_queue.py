import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convd.service.batching.entry import Entry, EntryState, Priority
from convd.service.batching.planning import plan_next_batch
from convd.service.batching.waiting_queue import HIGH_ROWS_PER_NORMAL_ROW, WaitingQueue
from convd.service.errors import InferenceFailedError
from tests.service.batching.simulation import engine, ids_of, rows_of

sizes = st.lists(st.integers(1, 10), min_size=1, max_size=20)


def entries_of(
    sizes: list[int], deadline: float = math.inf, priority: Priority = Priority.NORMAL
) -> list[Entry]:
    ends = np.cumsum(sizes)
    return [
        Entry(rows_of(range(end - size, end)), 0.0, deadline, priority)
        for size, end in zip(sizes, ends, strict=True)
    ]


@given(sizes, st.integers(1, 12))
def test_rows_come_out_once_in_order_and_in_full_batches(sizes: list[int], max_rows: int) -> None:
    queue = WaitingQueue()
    entries = entries_of(sizes)
    for entry in entries:
        queue.push(entry)
    collected: list[int] = []
    batches = []
    while queue.waiting_rows:
        batch = queue.collect(max_rows, -math.inf, 1.0)
        batches.append(batch)
        collected += ids_of(np.concatenate(batch.arrays))
    assert collected == list(range(sum(sizes)))
    assert all(batch.rows == max_rows for batch in batches[:-1])
    # Batches may end in any order: answers still go to their owners, row by row.
    for batch in reversed(batches):
        queue.deliver(batch, engine(np.concatenate(batch.arrays)), 0.5, 2.0)
    assert all(entry.state is EntryState.ANSWERED for entry in entries)
    answers = np.concatenate([entry.result().outputs[0] for entry in entries])
    np.testing.assert_array_equal(answers[:, 0], np.arange(sum(sizes)))


def test_a_lone_entry_is_neither_copied_nor_cut() -> None:
    queue = WaitingQueue()
    rows = rows_of(range(4))
    entry = Entry(rows, 0.0)
    queue.push(entry)
    batch = queue.collect(8, -math.inf, 0.0)
    assert batch.arrays[0] is rows
    outputs = engine(rows)
    queue.deliver(batch, outputs, 0.5, 1.0)
    result = entry.result()
    assert result.outputs is outputs
    assert result.batch_sizes == (4,)
    assert result.inference_seconds == pytest.approx(0.5)
    assert result.queue_seconds == pytest.approx(0.5)


@given(st.integers(1, 40), st.integers(1, 40))
def test_normal_priority_keeps_its_share(high: int, normal: int) -> None:
    """Nobody starves: of the rows collected while both levels wait, one in nine is normal."""
    queue = WaitingQueue()
    for entry in entries_of([1] * high, priority=Priority.HIGH) + entries_of([1] * normal):
        queue.push(entry)
    lead = 0
    while queue.rows_ahead(Priority.HIGH) and queue.waiting_rows > queue.rows_ahead(Priority.HIGH):
        batch = queue.collect(1, -math.inf, 0.0)
        if batch.owners[0].priority is Priority.HIGH:
            lead += 1
        else:
            assert lead == HIGH_ROWS_PER_NORMAL_ROW
            lead = 0
        assert lead <= HIGH_ROWS_PER_NORMAL_ROW


@given(sizes, sizes, st.integers(1, 12))
def test_a_steady_stream_of_high_priority_does_not_starve_normal_entries_of_any_size(
    normal: list[int], high: list[int], max_rows: int
) -> None:
    queue = WaitingQueue()
    waiting = entries_of(normal)
    for entry in waiting:
        queue.push(entry)
    rows_run = 0
    while any(entry.collected < entry.size for entry in waiting):
        while queue.rows_ahead(Priority.HIGH) < 2 * max_rows:
            for entry in entries_of(high, priority=Priority.HIGH):
                queue.push(entry)
        batch = queue.collect(max_rows, -math.inf, 0.0)
        rows_run += batch.rows
        bound = (HIGH_ROWS_PER_NORMAL_ROW + 1) * sum(e.collected for e in waiting)
        assert rows_run <= bound + HIGH_ROWS_PER_NORMAL_ROW + 2 * max_rows


@pytest.mark.parametrize("state", [EntryState.CANCELLED, EntryState.EXPIRED, EntryState.REFUSED])
def test_a_dropped_entry_leaves_at_once_and_is_never_collected(state: EntryState) -> None:
    queue = WaitingQueue()
    first, second = entries_of([4, 4])
    queue.push(first)
    queue.push(second)
    queue.drop(first, state, 1.0)
    queue.drop(first, EntryState.CANCELLED, 2.0)
    assert (first.state, first.ended_at) == (state, 1.0)
    assert queue.waiting_rows == 4
    assert first.rows is None
    queue.push(*entries_of([6]))
    batch = queue.collect(10, -math.inf, 1.0)
    assert first not in batch.owners


def test_the_answer_to_a_dropped_entry_is_dropped_too() -> None:
    queue = WaitingQueue()
    first, second = entries_of([3, 2])
    queue.push(first)
    queue.push(second)
    batch = queue.collect(4, -math.inf, 0.0)
    queue.drop(second, EntryState.CANCELLED, 0.5)
    assert not queue.waiting_rows
    queue.deliver(batch, engine(np.concatenate(batch.arrays)), 1.0, 1.0)
    assert first.state is EntryState.ANSWERED
    assert second.state is EntryState.CANCELLED


def test_an_entry_past_its_deadline_is_neither_collected_nor_answered() -> None:
    queue = WaitingQueue()
    late, *_ = entries_of([2], deadline=1.0)
    later, *_ = entries_of([2], deadline=2.0)
    queue.push(late)
    queue.push(later)
    batch = queue.collect(10, -math.inf, 1.0)
    assert late.state is EntryState.EXPIRED
    assert batch.owners == [later]
    queue.deliver(batch, engine(batch.arrays[0]), 1.0, 2.0)
    assert later.state is EntryState.EXPIRED


def test_a_failed_batch_fails_each_owner_once_and_takes_the_rest_of_a_split_entry_along() -> None:
    queue = WaitingQueue()
    small, large, behind = entries_of([1, 8, 1])
    for entry in (small, large, behind):
        queue.push(entry)
    batch = queue.collect(4, -math.inf, 0.0)
    second = queue.collect(2, -math.inf, 0.0)
    cause = RuntimeError("out of memory")
    queue.fail(batch, cause, 1.0)
    assert small.state is large.state is EntryState.FAILED
    assert queue.waiting_rows == 1
    queue.fail(second, RuntimeError("another"), 1.0)
    with pytest.raises(InferenceFailedError) as caught:
        large.result()
    assert caught.value.__cause__ is cause
    assert "memory" not in str(caught.value)
    batch = queue.collect(4, -math.inf, 0.0)
    assert batch.owners == [behind]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_every_collected_row_is_expected_in_time_unless_none_can_be(
    waiting: list[tuple[int, int]], max_rows: int, fixed: int, by_row: int
) -> None:
    queue = WaitingQueue()
    for size, deadline in waiting:
        queue.push(Entry(rows_of(range(size)), 0.0, float(deadline)))
    entries = list(queue.in_order())
    rows, limit = plan_next_batch(queue, 0.0, max_rows, lambda rows: float(fixed + by_row * rows))
    batch = queue.collect(rows, limit, 0.0)
    assert 0 < batch.rows <= max_rows
    ends_at = fixed + by_row * batch.rows
    if batch.rows > 1:
        assert all(owner.deadline >= ends_at for owner in batch.owners)
    expired = [entry for entry in entries if entry.state is EntryState.EXPIRED]
    assert all(entry.deadline < ends_at for entry in expired)
