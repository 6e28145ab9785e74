"""The mirror: takes samples of what is answered, and knows when the process is idle.

This is what requests pay for. A request that is not sampled costs an append, a comparison of random
numbers and a look at the clock; a sample costs a lock and the copy of a row.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convd.service.calls.call import Call
from convd.service.inference.preparation import ImageSource, PixelImage
from convd.service.inference.service import Classified
from convd.service.lifecycle.shadow_settings import ShadowSettings
from convd.service.shadow.comparison import Comparison
from convd.service.shadow.report import Outcome

QUIET_SECONDS = 0.01
"""How long nothing may have been asked of the process. Under load the next request is on its way
when the last answer leaves."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_WAITING_SAMPLES = 4096

logger = logging.getLogger(__name__)


class Route(NamedTuple):
    """Which answers of a model are compared.

    Attributes:
        settings: How many.
        comparison: Where the result goes.
        problem: Why nothing is compared now; empty if something is.
    """

    settings: ShadowSettings
    comparison: Comparison
    problem: str = ""


class Sample(NamedTuple):
    """One answered picture that is to be compared.

    Attributes:
        comparison: Where the result goes.
        source: What the caller sent.
        image: The live version's input, uint8 `[height, width, channels]`.
        probabilities: Its answer, float32 `[classes]`.
        request_id: The caller's id of the request; empty if it gave none.
        unix_seconds: When it was answered.
        size_bytes: Memory that it takes.
    """

    comparison: Comparison
    source: bytes | PixelImage | None
    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    request_id: str
    unix_seconds: float
    size_bytes: int


class SampleMirror:
    """Samples answers into a bounded queue; a full queue drops what comes.

    Attributes:
        routes: What is compared, by model; replaced as a whole.
        running: Cancelled when a request arrives: the comparison that runs; None if none does.
    """

    def __init__(self) -> None:
        self.routes: Mapping[str, Route] = {}
        self.running: Call | None = None
        # A deque as a count: every request adds to it and takes from it, which needs no lock.
        self._requests: deque[None] = deque()
        self._quiet_since = time.monotonic()
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque()
        self._waiting_bytes = 0
        self._filled = threading.Semaphore(0)

    def began(self) -> None:
        """Give way to a request."""
        # `begin` does both in the other order: one of the two sees the other.
        self._requests.append(None)
        running = self.running
        if running is not None:
            running.cancel()

    def ended(self) -> None:
        """Note when the process became quiet."""
        self._requests.pop()
        self._quiet_since = time.monotonic()

    def answered(
        self, call: Call, sources: Sequence[ImageSource] | NDArray[np.uint8], answer: Classified
    ) -> None:
        """Take samples of an answer, if it is one of the live version's."""
        route = self.routes.get(answer.servable.name)
        if route is None or route.problem or answer.servable.version != route.comparison.live:
            return
        share = route.settings.share
        chosen = [row for row in range(len(answer.images)) if random.random() < share]  # noqa: S311
        if not chosen:
            return
        try:
            self._take(route.comparison, chosen, call, sources, answer)
        # No caller may fail for a comparison.
        except Exception:
            logger.exception("an answer could not be sampled")
            route.comparison.count(Outcome.DROPPED, len(chosen))

    def begin(self, call: Call) -> bool:
        """Let requests cancel a call from now on; whether the process is idle."""
        self.running = call
        return not self._requests

    def end(self) -> None:
        """Let requests cancel nothing any more."""
        self.running = None

    def seconds_until_idle(self) -> float:
        """How long the process has to stay quiet, for a comparison to begin; at least."""
        if self._requests:
            return QUIET_SECONDS
        return max(0.0, self._quiet_since + QUIET_SECONDS - time.monotonic())

    def next_sample(self, timeout_seconds: float) -> Sample | None:
        """Take the sample that has waited longest; None if none comes in time."""
        if not self._filled.acquire(timeout=timeout_seconds):
            return None
        with self._lock:
            sample = self._samples.popleft()
            self._waiting_bytes -= sample.size_bytes
        return sample

    @property
    def waiting(self) -> Mapping[Comparison, int]:
        """How many samples of each comparison wait."""
        with self._lock:
            samples = list(self._samples)
        counts: dict[Comparison, int] = {}
        for sample in samples:
            counts[sample.comparison] = counts.get(sample.comparison, 0) + 1
        return counts

    def _take(
        self,
        comparison: Comparison,
        chosen: list[int],
        call: Call,
        sources: Sequence[ImageSource] | NDArray[np.uint8],
        answer: Classified,
    ) -> None:
        probabilities = answer.outputs.probabilities
        refused = answer.refusals
        usable = [index for index in range(len(sources)) if index not in refused] if refused else ()
        now = time.time()
        for row in chosen:
            source = sources[usable[row] if usable else row]
            kept = source if isinstance(source, bytes | PixelImage) else None
            size_bytes = answer.images[row].nbytes + probabilities[row].nbytes + _size_of(kept)
            with self._lock:
                room = (
                    len(self._samples) < MAX_WAITING_SAMPLES
                    and self._waiting_bytes + size_bytes <= MAX_WAITING_BYTES
                )
                if room:
                    # Copies: a view of one row would keep the whole batch in memory.
                    image, own = answer.images[row].copy(), probabilities[row].copy()
                    self._samples.append(
                        Sample(comparison, kept, image, own, call.request_id, now, size_bytes)
                    )
                    self._waiting_bytes += size_bytes
            if room:
                self._filled.release()
            else:
                comparison.count(Outcome.DROPPED)


def _size_of(source: bytes | PixelImage | None) -> int:
    if source is None:
        return 0
    return len(source) if isinstance(source, bytes) else len(source.data)
