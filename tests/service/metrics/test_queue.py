import threading

import numpy as np
from numpy.typing import NDArray

from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Engine
from tests.support import wait_until


def test_the_age_of_the_queue_is_that_of_its_oldest_row() -> None:
    now = 100.0
    running, go_on = threading.Event(), threading.Event()

    def run(rows: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        running.set()
        assert go_on.wait(30)
        return (np.zeros((len(rows), 2), np.float32),)

    batcher = Batcher(Engine(run, max_batch_size=1), max_queue_size=8, clock=lambda: now)
    rows = np.zeros((1, 2, 2, 1), np.uint8)
    threads = [threading.Thread(target=batcher.submit, args=(rows,)) for _ in range(2)]
    threads[0].start()
    assert running.wait(30)
    assert batcher.oldest_wait_seconds == 0
    threads[1].start()
    wait_until(lambda: batcher.waiting_rows == 1)
    now = 103.5
    assert batcher.oldest_wait_seconds == 3.5
    go_on.set()
    for thread in threads:
        thread.join()
    assert batcher.oldest_wait_seconds == 0
    assert batcher.max_queue_size == 8
