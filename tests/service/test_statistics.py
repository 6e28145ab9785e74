import copy
import dataclasses
import operator
import threading
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from convd.service.errors import CallerGoneError, QueueFullError
from convd.service.statistics import (
    Duration,
    RequestTimes,
    ServableStatistics,
    Stages,
    Statistics,
    StatisticsByVersion,
    add_up_statistics,
)

NANOSECONDS = st.integers(0, 1000)
DURATIONS = st.builds(Duration, st.integers(0, 5), NANOSECONDS)
STAGES = st.builds(Stages, DURATIONS, DURATIONS, DURATIONS)
STATISTICS = st.builds(
    Statistics,
    *[st.integers(0, 5)] * 3,
    *[DURATIONS] * 4,
    STAGES,
    st.dictionaries(st.sampled_from([1, 2, 8]), STAGES),
)
PARTS = st.lists(
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(1, 2)), STATISTICS), max_size=4
)


def answer(statistics: ServableStatistics, rows: int, batch_sizes: tuple[int, ...]) -> None:
    times = RequestTimes()
    times.submitted()
    times.answered(rows, queue_seconds=0.25, inference_seconds=0.5, batch_sizes=batch_sizes)
    times.ended()
    statistics.answered(times)


def test_an_answered_request_is_counted_in_every_stage() -> None:
    statistics = ServableStatistics()
    statistics.batch_executed(8, 0.5)
    statistics.batch_executed(4, 0.25)
    answer(statistics, 12, (8, 4))
    counted = statistics.snapshot()
    assert (counted.rows, counted.batches, counted.success.count) == (12, 2, 1)
    assert (counted.queue.count, counted.queue.nanoseconds) == (1, 250_000_000)
    assert counted.stages.inference.nanoseconds == 500_000_000
    assert list(counted.by_batch_size) == [8, 4]
    assert counted.by_batch_size[8].inference.nanoseconds == 500_000_000
    assert counted.by_batch_size[4].inference.nanoseconds == 250_000_000
    # Each batch carries its share of the request.
    shares = [stages.input for stages in counted.by_batch_size.values()]
    assert [share.count for share in shares] == [1, 1]
    total = sum(share.nanoseconds for share in shares)
    assert counted.stages.input.nanoseconds - 1 <= total <= counted.stages.input.nanoseconds


def test_failures_and_cancellations_are_told_apart() -> None:
    statistics = ServableStatistics()
    for error in (CallerGoneError("gone"), QueueFullError("full"), ValueError("a bug")):
        times = RequestTimes()
        times.ended()
        statistics.failed(times, error)
    counted = statistics.snapshot()
    assert (counted.cancelled.count, counted.failure.count, counted.success.count) == (1, 2, 0)
    assert counted.last_answer_unix_milliseconds == 0


def test_a_snapshot_does_not_change() -> None:
    statistics = ServableStatistics()
    answer(statistics, 1, (1,))
    before = statistics.snapshot()
    answer(statistics, 1, (1,))
    assert (before.rows, before.by_batch_size[1].input.count) == (1, 1)


def test_threads_lose_nothing() -> None:
    statistics = ServableStatistics()

    def work() -> None:
        for _ in range(500):
            statistics.batch_executed(3, 0.001)
            answer(statistics, 3, (3,))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = statistics.snapshot()
    assert (counted.rows, counted.batches, counted.queue.count) == (6000, 2000, 2000)
    assert counted.by_batch_size[3].inference.nanoseconds == 2000 * 1_000_000


def numbers(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, int]]:
    """Every number of statistics, with the names that lead to it."""
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, (*path, key))


@given(parts=PARTS)
def test_every_number_of_the_sum_is_the_sum_of_the_numbers(
    parts: list[StatisticsByVersion],
) -> None:
    before = copy.deepcopy(parts)
    expected: dict[object, int] = {}
    for part in parts:
        for version, counted in part.items():
            for path, number in numbers(dataclasses.asdict(counted), (version,)):
                combine = max if "last_answer_unix_milliseconds" in str(path) else operator.add
                expected[path] = combine(expected.get(path, 0), number)
    total = add_up_statistics(parts)
    found = {version: dataclasses.asdict(counted) for version, counted in total.items()}
    assert dict(numbers(found)) == expected
    for counted in total.values():
        counted.include(counted)
    assert parts == before, "the sum shares nothing with what was added up"


@given(parts=PARTS, dead=st.integers(0, 4))
def test_the_order_in_which_processes_end_changes_nothing(
    parts: list[StatisticsByVersion], dead: int
) -> None:
    departed: StatisticsByVersion = {}
    for part in parts[:dead]:
        departed = add_up_statistics([departed, part])
    assert add_up_statistics([*parts[dead:], departed]) == add_up_statistics(parts)
