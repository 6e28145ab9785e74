"""What clients saw, and whether the server's metrics say the same, code by code."""

import dataclasses
import re
import threading
from collections import Counter
from collections.abc import Iterable

from testbed.server import ServerProcess

Key = tuple[str, str, str]
"""Model, method and status code."""

TRANSPORT_CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""What a client sees of a worker that has died or is silent."""

_SAMPLE = re.compile(r"^convd_requests_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One call, from its client's side.

    Attributes:
        key: Which model and method were called, and the code that came back.
        started_at: When, in seconds of `time.monotonic`.
        ended_at: When its answer or its refusal came.
    """

    key: Key
    started_at: float
    ended_at: float


@dataclasses.dataclass(frozen=True)
class Death:
    """A worker that was killed or stopped.

    Attributes:
        reported_from: Its last report is not older than this.
        died_at: When it was killed or stopped.
        replaced_at: When the server was ready again, and its clients had noticed.
    """

    reported_from: float
    died_at: float
    replaced_at: float


class Ledger:
    """The attempts of one round."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.sent = Counter[str]()
        self._lock = threading.Lock()

    def note(self, attempt: Attempt) -> None:
        """Note an attempt that has ended."""
        self.attempts.append(attempt)

    def note_sent(self, model: str, count: int = 1) -> None:
        """Note calls whose end their client does not wait for."""
        with self._lock:
            self.sent[model] += count

    def counts(self) -> Counter[Key]:
        """How many attempts ended with each code."""
        return Counter(attempt.key for attempt in self.attempts)

    def differences(
        self, counted: Counter[Key], models: Iterable[str], deaths: Iterable[Death]
    ) -> list[str]:
        """Where the metrics say something else than the clients.

        Without deaths both must be equal. A worker that dies takes with it what it has counted
        since its last report, so metrics may lack calls that were under way or ended between that
        report and its death. Calls that it could no longer answer end at their clients with a code
        of the transport, which no server counts; and it may have counted them as answered.

        Args:
            counted: What the metrics have counted meanwhile.
            models: Which models' calls to compare.
            deaths: The deaths of this round.
        """
        seen = self.counts()
        deaths = list(deaths)
        uncounted = self._under_way((death.reported_from, death.died_at) for death in deaths)
        unanswered = self._under_way((death.reported_from, death.replaced_at) for death in deaths)
        problems = []
        for key in sorted({key for key in (*seen, *counted) if key[0] in models}):
            model, method, code = key
            if code in TRANSPORT_CODES:
                least, most = 0, unanswered[key]
            else:
                least = -sum(unanswered[model, method, cut] for cut in TRANSPORT_CODES)
                most = uncounted[key]
            if not least <= seen[key] - counted[key] <= most:
                problems.append(
                    f"{model} {method} {code}: clients {seen[key]}, metrics {counted[key]}, "
                    f"allowed to differ by {least} to {most}"
                )
        return problems

    def _under_way(self, spans: Iterable[tuple[float, float]]) -> Counter[Key]:
        """How many attempts were under way at any moment of some spans of time."""
        spans = list(spans)
        return Counter(
            attempt.key
            for attempt in self.attempts
            if any(attempt.started_at <= end and attempt.ended_at >= start for start, end in spans)
        )


def counted_calls(server: ServerProcess) -> Counter[Key]:
    """What the metrics have counted, over all versions; reports are newer than this call."""
    # A report that was already under way may be older, so that it is the second one that counts.
    server.metrics()
    counts = Counter[Key]()
    for labels, value in _SAMPLE.findall(server.metrics()):
        found = dict(_LABEL.findall(labels))
        counts[found["model"], found["method"], found["code"]] += int(float(value))
    return counts
