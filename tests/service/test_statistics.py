import copy
import dataclasses
import operator
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from convd.service.statistics import (
    Duration,
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
