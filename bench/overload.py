"""Twice the load that the server can carry, for a minute: what still arrives in time?"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import CLASSIFY, check_installed, load, load_at_rate, write_request
from bench.load import random_requests
from bench.machine import machine
from bench.networks import publish_network
from bench.server import RunningServer, serving

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/overload.md")
CONCURRENCY = 32
SATURATION_SECONDS = 20.0
WARM_UP_SECONDS = 3.0
MINIMUM_SHARE = 0.90
PROMPT_SECONDS = 0.010
MINIMUM_PROMPT_SHARE = 0.95
MAXIMUM_GROWTH = 1.03


@dataclass(frozen=True)
class Outcome:
    """What became of the requests.

    Attributes:
        seconds: What each took, as the client saw it, in ascending order.
        answered: How many were answered, as the server counted them.
        refused: How many were refused on arrival.
        growth: Resident memory after them, as a multiple of that before.
    """

    seconds: list[float]
    answered: int
    refused: int
    growth: float

    def in_time(self, deadline_seconds: float) -> int:
        """Answers that came before the deadline.

        Whoever is given up while waiting hears of it after the deadline: what came before it are
        answers and refusals.
        """
        before = sum(seconds <= deadline_seconds for seconds in self.seconds)
        return min(before - self.refused, self.answered)

    @property
    def prompt_share(self) -> float:
        """Share of the refusals that came promptly.

        No answer comes as soon as that, so that who is told promptly is refused.
        """
        prompt = sum(seconds <= PROMPT_SECONDS for seconds in self.seconds)
        return min(prompt, self.refused) / self.refused if self.refused else 1.0


def main() -> None:
    """Measure saturation, then an open loop at twice that rate; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="resnet50")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--deadline-seconds", type=float, default=0.2)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    publish_network(RUN / "repository", chosen.model)
    message = random_requests(chosen.model, (224, 224, 3))[0].SerializeToString()
    request = write_request(RUN / f"{chosen.model}.request", message)
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        (repository / chosen.model).symlink_to((RUN / "repository" / chosen.model).absolute())
        with serving(repository, RUN / "overload.log") as server:
            # The machine's speed drifts: what it can do is measured before and after.
            saturations = [_saturation(server, request)]
            rate = 2 * saturations[0]
            outcome = _overload(server, request, rate, chosen.seconds, chosen.deadline_seconds)
            saturations.append(_saturation(server, request))
    _report(chosen, before, saturations, outcome)


def _saturation(server: RunningServer, request: Path) -> float:
    """What a closed loop of callers without deadlines gets, in answers per second."""
    return load(
        server.address, CLASSIFY, request, concurrency=CONCURRENCY, seconds=SATURATION_SECONDS
    ).requests_per_second


def _overload(
    server: RunningServer, request: Path, rate: float, seconds: float, deadline_seconds: float
) -> Outcome:
    def send(duration_seconds: float) -> list[float]:
        return load_at_rate(
            server.address,
            CLASSIFY,
            request,
            requests_per_second=rate,
            seconds=duration_seconds,
            deadline_seconds=deadline_seconds,
        )

    send(WARM_UP_SECONDS)
    counted = _counted(server)
    memory_bytes = server.resident_bytes()
    taken = send(seconds)
    growth = server.resident_bytes() / memory_bytes
    answered, refused = (
        round(after - earlier) for after, earlier in zip(_counted(server), counted, strict=True)
    )
    return Outcome(taken, answered, refused, growth)


def _counted(server: RunningServer) -> tuple[float, float]:
    """Requests that the server has answered, and that it has refused on arrival."""
    answered = server.counted("convd_requests_total")
    dropped = server.counted("convd_dropped_rows_total")
    return (
        sum(count for labels, count in answered.items() if 'code="OK"' in labels),
        sum(count for labels, count in dropped.items() if 'reason="rejected"' in labels),
    )


def _report(
    chosen: argparse.Namespace, machine_before: str, saturations: list[float], outcome: Outcome
) -> None:
    in_time = outcome.in_time(chosen.deadline_seconds)
    share = in_time / chosen.seconds / statistics.mean(saturations)
    checks = [
        ("answered within the deadline, of the closed loop's rate", f"{share:.1%}",
         f"at least {MINIMUM_SHARE:.0%}", share >= MINIMUM_SHARE),
        (f"refusals that took at most {PROMPT_SECONDS * 1e3:.0f} ms", f"{outcome.prompt_share:.1%}",
         f"at least {MINIMUM_PROMPT_SHARE:.0%}", outcome.prompt_share >= MINIMUM_PROMPT_SHARE),
        ("resident memory, after to before", f"{outcome.growth:.3f}",
         f"at most {MAXIMUM_GROWTH}", outcome.growth <= MAXIMUM_GROWTH),
    ]  # fmt: skip
    write_document(
        DOCUMENT,
        "Overload",
        machine_before,
        f"`make drills-load`: {chosen.model}, prepared images over `convd.v1`, client (h2load) and "
        f"server on the same cores. A closed loop of {CONCURRENCY} callers for "
        f"{SATURATION_SECONDS:.0f} s gives {saturations[0]:.1f} answers per second before and "
        f"{saturations[1]:.1f} after; the mean is its rate. In between an open loop of "
        f"{2 * saturations[0]:.1f} requests per second for {chosen.seconds:.0f} s, each with a "
        f"deadline of {chosen.deadline_seconds * 1e3:.0f} ms.",
        table(
            ["What", "Measured", "Bound", "Kept"],
            [
                (what, value, bound, "yes" if kept else "**no**")
                for what, value, bound, kept in checks
            ],
        ),
        table(
            ["Requests", "How many"],
            [
                ("sent", len(outcome.seconds)),
                ("answered in time", in_time),
                ("answered late", outcome.answered - in_time),
                ("refused on arrival", outcome.refused),
                (
                    "given up at the deadline",
                    len(outcome.seconds) - outcome.answered - outcome.refused,
                ),
            ],
        ),
    )
    if not all(kept for *_, kept in checks):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
