from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convd.artifact.graph_contract import REQUIRED
from convd.runtime.buckets import batch_buckets, bucket_of
from convd.runtime.cpu import CPU
from convd.runtime.lanes import Lanes
from convd.runtime.session import open_session
from tests.runtime.test_session import tiny_model


@settings(deadline=None)
@given(largest=st.integers(1, 300), rows=st.integers(1, 300))
def test_the_bucket_is_the_smallest_that_holds_the_rows(largest: int, rows: int) -> None:
    buckets = batch_buckets(largest)
    assert buckets == tuple(sorted(set(buckets)))
    assert buckets[-1] == largest
    if rows <= largest:
        bucket = bucket_of(rows, buckets)
        assert bucket in buckets
        assert rows <= bucket < 2 * rows or bucket == largest


def ordinary_memory(size_bytes: int) -> NDArray[np.uint8]:
    return np.empty(size_bytes, np.uint8)


@pytest.fixture(scope="module")
def lanes() -> Lanes:
    session = open_session(tiny_model(), CPU, intra_op_threads=1)
    outputs = dict.fromkeys(REQUIRED, (3,))
    return Lanes(session, outputs, max_batch_size=6, lanes=2, host_memory=ordinary_memory)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 12, 13])
def test_padded_batches_answer_the_rows_alone(lanes: Lanes, rows: int) -> None:
    images = np.random.default_rng(rows).integers(0, 4, (rows, 2, 2, 3), dtype=np.uint8)
    outputs = lanes.run(images)
    assert outputs.probabilities.shape == outputs.logits.shape == (rows, 3)
    assert np.allclose(outputs.logits, images.mean(axis=(1, 2)), atol=1e-5)


def test_batches_at_the_same_time_do_not_mix(lanes: Lanes) -> None:
    batches = [
        np.random.default_rng(seed).integers(0, 4, (1 + seed % 9, 2, 2, 3), dtype=np.uint8)
        for seed in range(200)
    ]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lanes.run, batches))
    # Compared after all have run: an answer has to be the caller's own, not a view of a buffer.
    for batch, answer in zip(batches, answers, strict=True):
        assert np.allclose(answer.logits, batch.mean(axis=(1, 2)), atol=1e-5)
