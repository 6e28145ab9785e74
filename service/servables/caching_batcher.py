"""A batcher with a response cache."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import NO_EXTRAS, REQUIRED, Extras
from convd.service.batching.batcher import Batcher
from convd.service.batching.engine import Outputs, Rows
from convd.service.batching.entry import BatchedResult, EntryTrace, Priority
from convd.service.calls.call import call_in_progress
from convd.service.cancellation import Cancellation
from convd.service.servables.response_cache import ResponseCache, content_key


class CachingBatcher(Batcher):
    """Answers rows from the cache where it can, and runs the others.

    Args:
        *engine: As for `Batcher`.
        cache: Holds the answers.
        on_look_up: Called with the number of rows that hit and that missed the cache.
        **settings: As for `Batcher`.
    """

    def __init__(
        self,
        *engine: Any,  # noqa: ANN401
        cache: ResponseCache,
        on_look_up: Callable[[int, int], None],
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*engine, **settings)
        self._cache = cache
        self._on_look_up = on_look_up

    def check(
        self, size: int, *, deadline: float | None = None, priority: Priority = Priority.NORMAL
    ) -> None:
        """Never refuse here: only the prepared rows tell whether the answer is cached."""

    def submit(
        self,
        rows: Rows,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.NORMAL,
        cancellation: Cancellation | None = None,
        trace: EntryTrace | None = None,
        admitted: bool = False,  # noqa: ARG002
        extras: Extras = NO_EXTRAS,
    ) -> BatchedResult:
        """As `Batcher.submit`; if every row was cached, the batch size is 0.

        Optional outputs are large and not cached, and rows of low priority are never sent twice.
        """
        if extras or priority is Priority.LOW:
            return super().submit(
                rows,
                deadline=deadline,
                priority=priority,
                cancellation=cancellation,
                trace=trace,
                extras=extras,
            )
        # What another principal has sent must not show in how soon an answer comes.
        call = call_in_progress()
        owner = call.principal.name.encode() if call is not None and call.principal else b""
        keys = [content_key(row) + owner for row in rows]
        answers = self._cache.look_up(self, keys)
        missing = [index for index, answer in enumerate(answers) if answer is None]
        self._on_look_up(len(rows) - len(missing), len(missing))
        if len(missing) == len(rows):
            return self._submit(rows, keys, deadline, priority, cancellation, trace)
        queue_seconds = inference_seconds = 0.0
        batch_sizes: tuple[int, ...] = (0,)
        if missing:
            missing_keys = [keys[index] for index in missing]
            result = self._submit(
                rows[missing], missing_keys, deadline, priority, cancellation, trace
            )
            _, queue_seconds, inference_seconds, batch_sizes = result
            for index, *answer in zip(missing, *_cached(result.outputs), strict=True):
                answers[index] = tuple(answer)
        outputs = tuple(
            np.stack(column)
            for column in zip(*(answer for answer in answers if answer is not None), strict=True)
        )
        return BatchedResult(outputs, queue_seconds, inference_seconds, batch_sizes)

    def close(self) -> None:
        """Refuse new and waiting entries, and drop the cached answers."""
        super().close()
        self._cache.forget(self)

    def _submit(
        self,
        rows: Rows,
        keys: list[bytes],
        deadline: float | None,
        priority: Priority,
        cancellation: Cancellation | None,
        trace: EntryTrace | None,
    ) -> BatchedResult:
        result = super().submit(
            rows, deadline=deadline, priority=priority, cancellation=cancellation, trace=trace
        )
        for key, *answer in zip(keys, *_cached(result.outputs), strict=True):
            self._cache.store(self, key, tuple(answer))
        return result


def _cached(outputs: Outputs) -> list[NDArray[np.float32]]:
    """The outputs that every answer has."""
    return [output for output in outputs[: len(REQUIRED)] if output is not None]
