from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convd.service.batching.engine import Engine
from convd.service.servables.caching_batcher import CachingBatcher
from convd.service.servables.response_cache import ResponseCache, content_key
from tests.support import add_version, png, running_server, wait_until


def row(value: int) -> tuple[np.ndarray, ...]:
    return (np.full(10, value, np.float32), np.full(10, -value, np.float32))


@settings(deadline=None)
@given(
    max_bytes=st.integers(0, 5_000),
    keys=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), max_size=60),
)
def test_is_bounded_and_answers_what_was_stored(
    max_bytes: int, keys: list[tuple[str, int]]
) -> None:
    cache = ResponseCache(max_bytes)
    for owner, value in keys:
        cache.store(owner, bytes([value]), row(value))
        assert 0 <= cache.size_bytes <= max_bytes
        for known in "ab":
            for number, answer in enumerate(cache.look_up(known, [bytes([n]) for n in range(31)])):
                assert answer is None or np.array_equal(answer[0], row(number)[0])
    cache.forget("a")
    assert cache.look_up("a", [bytes([n]) for n in range(31)]) == [None] * 31
    cache.forget("b")
    assert cache.size_bytes == 0


def test_the_least_recently_used_leaves_first() -> None:
    cache = ResponseCache(1_000)
    cache.store("model", b"1", row(1))
    cache.store("model", b"2", row(2))
    cache.look_up("model", [b"1"])
    cache.store("model", b"3", row(3))
    assert [answer is not None for answer in cache.look_up("model", [b"1", b"2", b"3"])] == [
        True,
        False,
        True,
    ]


def test_only_what_is_unknown_runs_and_the_order_is_kept() -> None:
    batches = []

    def run(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        batches.append(len(rows))
        means = rows.mean(axis=(1, 2), dtype=np.float32)
        return means, -means

    seen: list[tuple[int, int]] = []
    batcher = CachingBatcher(
        Engine(run, max_batch_size=8),
        max_queue_size=32,
        cache=ResponseCache(1_000_000),
        on_look_up=lambda hits, misses: seen.append((hits, misses)),
    )
    images = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 1), dtype=np.uint8)
    batcher.submit(images[[1, 3]])
    mixed = batcher.submit(images)
    again = batcher.submit(images)
    assert batches == [2, 4]
    assert seen == [(0, 2), (2, 4), (6, 0)]
    for result in (mixed, again):
        assert np.allclose(result.outputs[0], images.mean(axis=(1, 2)))
        assert np.allclose(result.outputs[1], -images.mean(axis=(1, 2)))
    assert again.batch_sizes == (0,)
    batcher.close()
    assert batcher._cache.size_bytes == 0


def test_content_decides_not_memory() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert content_key(image) == content_key(image.copy())
    assert content_key(image) == content_key(np.asfortranarray(image))
    assert content_key(image) != content_key(image[::-1])


def test_a_server_counts_hits_and_a_new_version_answers_by_itself(
    repository: Path, published: Path
) -> None:
    picture = png(Image.new("L", (32, 32), 77))
    with running_server(repository, response_cache_bytes=1_000_000) as client:
        first = client.classify(picture)
        second = client.classify(picture)
        assert first == second
        _, metrics = client.get("/metrics")
        labels = 'model="digits",outcome="{}",version="1"'
        assert f"convd_response_cache_rows_total{{{labels.format('hit')}}} 1.0" in metrics
        assert f"convd_response_cache_rows_total{{{labels.format('miss')}}} 1.0" in metrics
        assert "convd_response_cache_bytes 480" in metrics
        add_version(repository, "digits", published)
        wait_until(lambda: client.classify(picture).model_version == 2)
        _, metrics = client.get("/metrics")
        assert 'convd_response_cache_rows_total{model="digits",outcome="miss",version="2"}' in (
            metrics
        )
