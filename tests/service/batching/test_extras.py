"""Optional outputs are computed for those who ask, and each gets the rows of its own."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.artifact.graph_contract import ALL_EXTRAS, NO_EXTRAS, OPTIONAL, Extras
from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine, Outputs, Rows
from convd.service.batching.entry import Entry
from convd.service.batching.waiting_queue import WaitingQueue
from convd.service.servables.caching_batcher import CachingBatcher
from convd.service.servables.response_cache import ResponseCache
from tests.service.batching.simulation import rows_of

wishes = st.frozensets(st.sampled_from([output.name for output in OPTIONAL]))


def engine(rows: Rows, extras: Extras = NO_EXTRAS, _interruption: object = None) -> Outputs:
    """Answer each row by its number; an optional output by its number and the output's place."""
    numbers = rows[:, 0, 0, 0].astype(np.float32)[:, np.newaxis]
    optional = [
        numbers + 1000 * place if output.name in extras else None
        for place, output in enumerate(OPTIONAL, start=1)
    ]
    return numbers, -numbers, *optional


def check(outputs: Outputs, numbers: list[int], extras: Extras) -> None:
    for output, expected in zip(outputs, engine(rows_of(numbers), ALL_EXTRAS), strict=True):
        assert output is None or np.array_equal(output, expected)
    there = dict(zip([output.name for output in OPTIONAL], outputs[2:], strict=True))
    assert all(there[name] is not None for name in extras)
    assert all(output is not None for output in outputs[:2])


@given(st.lists(st.tuples(st.integers(1, 5), wishes), min_size=1, max_size=8), st.data())
def test_rows_are_never_mixed_up(entries: list[tuple[int, Extras]], data: st.DataObject) -> None:
    queue, numbers = WaitingQueue(), itertools.count()
    waiting: list[tuple[Entry, list[int]]] = []
    for size, extras in entries:
        own = list(itertools.islice(numbers, size))
        entry = Entry(rows_of(own), 0.0, extras=extras)
        queue.push(entry)
        waiting.append((entry, own))
    while queue.waiting_rows:
        batch = queue.collect(data.draw(st.integers(1, 6)), -np.inf, 0.0)
        asked = frozenset().union(*(owner.extras for owner in batch.owners))
        assert batch.extras == asked
        queue.deliver(batch, engine(np.concatenate(batch.arrays), batch.extras), 0.0, 0.0)
    for entry, own in waiting:
        check(entry.result().outputs, own, entry.extras)


@pytest.mark.parametrize("extras", [NO_EXTRAS, ALL_EXTRAS])
def test_the_engine_computes_what_is_asked_for(extras: Extras) -> None:
    outputs = Batcher(Engine(engine, 4), max_queue_size=8).submit(rows_of([1, 2]), extras=extras)[0]
    check(outputs, [1, 2], extras)
    assert [output is not None for output in outputs[2:]] == [bool(extras)] * len(OPTIONAL)


def test_a_cache_keeps_what_every_answer_has() -> None:
    batcher = CachingBatcher(
        Engine(engine, 4),
        cache=ResponseCache(10_000),
        on_look_up=lambda _hits, _misses: None,
        max_queue_size=8,
    )
    for extras in (ALL_EXTRAS, NO_EXTRAS, ALL_EXTRAS, NO_EXTRAS):
        outputs = batcher.submit(rows_of([3, 4]), extras=extras).outputs
        if extras:
            check(outputs, [3, 4], extras)
        else:
            assert [output[:, 0].tolist() for output in outputs[:2]] == [[3, 4], [-3, -4]]
