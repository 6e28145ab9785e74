"""Metrics and statistics of one servable, from a record of each request and batch."""

import copy
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convd.artifact.manifest import Manifest
from convd.service.batching.batcher import BatchObserver
from convd.service.errors import CallerGoneError
from convd.service.metrics.predictions import PredictionRecorder
from convd.service.metrics.servables import DROP_REASONS, STAGES, ServableMetrics
from convd.service.statistics import NANOSECONDS, Statistics

_MAX_KEPT_BATCHES = 256
_MAX_KEPT_REQUESTS = 256
_MAX_KEPT_PROBABILITIES = 65536


class RequestRecord:
    """The facts of one request that are counted; times are of `time.perf_counter_ns`.

    Attributes:
        started_at: When its servable was found.
        submitted_at: When its rows were submitted to the batcher.
        answered_at: When the batcher returned.
        ended_at: When the response was finished.
        queue_seconds: How long the rows waited for the engine.
        inference_seconds: Inference time of the batches that held the rows.
        batch_sizes: Rows of each of these batches; 0 for an answer from the cache.
        probabilities: float32 `[rows, classes]`.
    """

    __slots__ = (
        "answered_at",
        "batch_sizes",
        "ended_at",
        "inference_seconds",
        "probabilities",
        "queue_seconds",
        "started_at",
        "submitted_at",
    )

    submitted_at: int
    answered_at: int
    ended_at: int
    queue_seconds: float
    inference_seconds: float
    batch_sizes: tuple[int, ...]
    probabilities: NDArray[np.float32]

    def __init__(self) -> None:
        self.started_at = time.perf_counter_ns()


class VersionMetrics(BatchObserver):
    """Counts the requests and batches of one servable, as metrics and as statistics.

    Records are buffered and counted in bulk, when a buffer fills or before anything is read.

    Args:
        metrics: The families of metrics.
        model: The model.
        version: Its version.
        manifest: The artifact's manifest.
    """

    def __init__(
        self, metrics: ServableMetrics, model: str, version: str, manifest: Manifest
    ) -> None:
        labels = (model, version)
        (
            self.decode_seconds,
            self.preprocess_seconds,
            self._queue_seconds,
            self._inference_seconds,
            self._postprocess_seconds,
        ) = (metrics.stage_seconds.labels(*labels, stage) for stage in STAGES)
        self.images_refused = metrics.refused_images.labels(*labels)
        self._batch_rows = metrics.batch_rows.labels(*labels)
        self._batch_seconds = metrics.batch_seconds.labels(*labels)
        self._rejected, self._expired, self._cancelled = (
            metrics.dropped_rows.labels(*labels, reason) for reason in DROP_REASONS
        )
        self._cache_hits = metrics.cached_rows.labels(*labels, "hit")
        self._cache_misses = metrics.cached_rows.labels(*labels, "miss")
        self._predictions = PredictionRecorder(manifest)
        metrics.predictions.add(model, version, self._predictions)
        self._statistics = Statistics()
        self._lock = threading.Lock()
        # Appending to a deque and taking from it need no lock.
        self._requests: deque[RequestRecord] = deque()
        self._batches: deque[tuple[int, float]] = deque()
        # Each record holds its probabilities, which may be many.
        self._max_kept_requests = min(
            _MAX_KEPT_REQUESTS, max(1, _MAX_KEPT_PROBABILITIES // len(manifest.labels))
        )
        self._fed = (
            self._queue_seconds,
            self._inference_seconds,
            self._postprocess_seconds,
            self._batch_rows,
            self._batch_seconds,
            self._predictions.confidence,
            self._predictions.entropy_ratio,
        )
        for distribution in self._fed:
            distribution.feeds.append(self.count)

    def answered(self, record: RequestRecord) -> None:
        """Record an answered request; neither the record nor its arrays may change afterwards."""
        self._requests.append(record)
        if len(self._requests) >= self._max_kept_requests:
            self.count()

    def failed(self, record: RequestRecord, error: BaseException) -> None:
        """Count a request that ended in an error."""
        nanoseconds = time.perf_counter_ns() - record.started_at
        with self._lock:
            counted = self._statistics
            kind = counted.cancelled if isinstance(error, CallerGoneError) else counted.failure
            kind.add(nanoseconds)

    def batch_executed(self, rows: int, inference_seconds: float) -> None:
        """Record a batch."""
        self._batches.append((rows, inference_seconds))
        if len(self._batches) >= _MAX_KEPT_BATCHES:
            self.count()

    def rejected(self, rows: int) -> None:
        """Count rows that were refused on arrival."""
        self._rejected.inc(rows)

    def expired(self, rows: int) -> None:
        """Count rows whose deadline passed."""
        self._expired.inc(rows)

    def cancelled(self, rows: int) -> None:
        """Count rows whose caller had gone."""
        self._cancelled.inc(rows)

    def cache_looked_up(self, hits: int, misses: int) -> None:
        """Count rows that hit and that missed the response cache."""
        self._cache_hits.inc(hits)
        self._cache_misses.inc(misses)

    @property
    def has_answered(self) -> bool:
        """Whether any image has been classified."""
        return self._predictions.confidence.count > 0

    def statistics(self) -> Statistics:
        """Copy the statistics since the servable was loaded."""
        self.count()
        with self._lock:
            return copy.deepcopy(self._statistics)

    def count(self) -> None:
        """Count the buffered records."""
        with self._lock:
            batches = [self._batches.popleft() for _ in range(len(self._batches))]
            if batches:
                self._count_batches(batches)
            requests = [self._requests.popleft() for _ in range(len(self._requests))]
            if requests:
                self._count_requests(requests)

    def close(self) -> None:
        """Count the rest; a buffered record would keep its session's arena in memory."""
        self.count()
        for distribution in self._fed:
            distribution.feeds.remove(self.count)

    def _count_batches(self, batches: Sequence[tuple[int, float]]) -> None:
        rows, seconds = (np.array(column) for column in zip(*batches, strict=True))
        self._batch_rows.observe_all(rows)
        self._batch_seconds.observe_all(seconds)
        self._statistics.batches += len(batches)
        nanoseconds = _nanoseconds(seconds)
        for size in np.unique(rows).tolist():
            of_size = nanoseconds[rows == size]
            self._statistics.of_batch_size(size).inference.add(int(of_size.sum()), len(of_size))

    def _count_requests(self, records: Sequence[RequestRecord]) -> None:
        started_at, submitted_at, answered_at, ended_at = np.array(
            [(one.started_at, one.submitted_at, one.answered_at, one.ended_at) for one in records]
        ).T
        queue = np.array([record.queue_seconds for record in records])
        inference = np.array([record.inference_seconds for record in records])
        input_ns, output_ns = submitted_at - started_at, ended_at - answered_at
        self._queue_seconds.observe_all(queue)
        self._inference_seconds.observe_all(inference)
        self._postprocess_seconds.observe_all(output_ns / NANOSECONDS)
        self._predictions.count([record.probabilities for record in records])
        counted, requests = self._statistics, len(records)
        age = time.perf_counter_ns() - int(ended_at.max())
        counted.last_answer_unix_milliseconds = (time.time_ns() - age) // 1_000_000
        counted.rows += sum([len(record.probabilities) for record in records])
        counted.success.add(int((ended_at - started_at).sum()), requests)
        counted.queue.add(int(_nanoseconds(queue).sum()), requests)
        counted.stages.input.add(int(input_ns.sum()), requests)
        counted.stages.inference.add(int(_nanoseconds(inference).sum()), requests)
        counted.stages.output.add(int(output_ns.sum()), requests)
        # Each batch of a request carries its share of the request's other stages.
        batches = np.array([len(record.batch_sizes) for record in records])
        sizes = np.array([size for record in records for size in record.batch_sizes])
        input_shares = (input_ns // batches).repeat(batches)
        output_shares = (output_ns // batches).repeat(batches)
        for size in np.unique(sizes).tolist():
            is_size = sizes == size
            stages, count = counted.of_batch_size(size), int(is_size.sum())
            stages.input.add(int(input_shares[is_size].sum()), count)
            stages.output.add(int(output_shares[is_size].sum()), count)


def _nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(seconds * NANOSECONDS).astype(np.int64)
