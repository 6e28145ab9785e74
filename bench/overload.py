"""Twice the load that the server can carry, for a minute: what still arrives in time?"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import CLASSIFY, check_installed, load, load_at_rate, write_request
from bench.machine import machine
from bench.networks import repository_of_one
from convd.commands.load_generator import random_requests
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/overload.md")
CONCURRENCY = 32
SATURATION_SECONDS = 20.0
ROUNDS = 3
ROUNDS_TO_COMPARE = 1
WARM_UP_SECONDS = 3.0
MINIMUM_SHARE = 0.92
PROMPT_SECONDS = 0.010
MINIMUM_PROMPT_SHARE = 0.95
MAXIMUM_GROWTH = 1.03


@dataclass(frozen=True)
class Outcome:
    """What became of the requests of one round.

    Attributes:
        saturation: Answers per second of the closed loops right before and after.
        seconds: What each took, as the client saw it, in ascending order.
        answered: How many were answered, as the server counted them.
        refused: How many were refused on arrival.
        growth: Resident memory after them, as a multiple of that before.
    """

    saturation: float
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

    def prompt_share(self, deadline_seconds: float) -> float:
        """Share of those who got no answer in time who were told so promptly.

        No answer comes as soon as that: whoever hears that early is refused.
        """
        prompt = sum(seconds <= PROMPT_SECONDS for seconds in self.seconds)
        return prompt / max(1, len(self.seconds) - self.in_time(deadline_seconds))


def main() -> None:
    """Measure saturation, then an open loop at twice that rate; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="resnet50")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--deadline-seconds", type=float, default=0.2)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    message = random_requests(chosen.model, (224, 224, 3))[0].SerializeToString()
    request = write_request(RUN / f"{chosen.model}.request", message)
    with repository_of_one(RUN / "repository", chosen.model) as repository:
        seconds, deadline_seconds = chosen.seconds, chosen.deadline_seconds
        with server_process(repository, RUN / "overload.log") as server:
            outcomes = list(_rounds(server, request, ROUNDS, seconds, deadline_seconds))
        # Where all cores compute a batch, all wait for the one that a call interrupts.
        with server_process(
            repository, RUN / "overload.log", "--max-concurrent-executions", 1
        ) as server:
            one_at_a_time = list(
                _rounds(server, request, ROUNDS_TO_COMPARE, seconds, deadline_seconds)
            )
    _report(chosen, before, outcomes, one_at_a_time)


def _rounds(
    server: ServerProcess, request: Path, rounds: int, seconds: float, deadline_seconds: float
) -> Iterator[Outcome]:
    """Overload the server several times, each between two measurements of what it can do.

    The machine's speed drifts: a closed loop and an open one are compared only side by side.
    """
    memory_bytes = 0
    saturation = _saturation(server, request)
    for _ in range(rounds):
        send = partial(
            load_at_rate,
            server.address,
            CLASSIFY,
            request,
            requests_per_second=2 * saturation,
            deadline_seconds=deadline_seconds,
        )
        send(seconds=WARM_UP_SECONDS)
        memory_bytes = memory_bytes or server.resident_bytes()
        answered, refused = _counted(server)
        taken = send(seconds=seconds)
        growth = server.resident_bytes() / memory_bytes
        answered_after, refused_after = _counted(server)
        before, saturation = saturation, _saturation(server, request)
        yield Outcome(
            (before + saturation) / 2,
            taken,
            round(answered_after - answered),
            round(refused_after - refused),
            growth,
        )


def _saturation(server: ServerProcess, request: Path) -> float:
    """What a closed loop of callers without deadlines gets, in answers per second."""
    return load(
        server.address, CLASSIFY, request, concurrency=CONCURRENCY, seconds=SATURATION_SECONDS
    ).requests_per_second


def _counted(server: ServerProcess) -> tuple[float, float]:
    """Requests that the server has answered, and that it has refused on arrival."""
    answered = server.counted("convd_requests_total")
    dropped = server.counted("convd_dropped_rows_total")
    return (
        sum(count for labels, count in answered.items() if 'code="OK"' in labels),
        sum(count for labels, count in dropped.items() if 'reason="rejected"' in labels),
    )


def _report(
    chosen: argparse.Namespace,
    machine_before: str,
    outcomes: list[Outcome],
    one_at_a_time: list[Outcome],
) -> None:
    deadline_seconds = chosen.deadline_seconds

    def share_of(one: Outcome) -> float:
        in_time_per_second: float = one.in_time(deadline_seconds) / chosen.seconds
        return in_time_per_second / one.saturation

    share = statistics.median(map(share_of, outcomes))
    prompt_share = min(one.prompt_share(deadline_seconds) for one in outcomes)
    growth = outcomes[-1].growth
    checks = [
        ("answered within the deadline, of the closed loop's rate (median)", f"{share:.1%}",
         f"at least {MINIMUM_SHARE:.0%}", share >= MINIMUM_SHARE),
        (f"the rest, told within {PROMPT_SECONDS * 1e3:.0f} ms (lowest)", f"{prompt_share:.1%}",
         f"at least {MINIMUM_PROMPT_SHARE:.0%}", prompt_share >= MINIMUM_PROMPT_SHARE),
        ("resident memory after the last, to before the first", f"{growth:.3f}",
         f"at most {MAXIMUM_GROWTH}", growth <= MAXIMUM_GROWTH),
    ]  # fmt: skip
    write_document(
        DOCUMENT,
        "Overload",
        machine_before,
        f"`make drills-load`: {chosen.model}, prepared images over `convd.v1`, client (h2load) and "
        f"server on the same cores. {ROUNDS} rounds: an open loop at twice the saturation for "
        f"{chosen.seconds:.0f} s, each request with a deadline of {deadline_seconds * 1e3:.0f} ms. "
        f"The saturation is what a closed loop of {CONCURRENCY} callers gets in "
        f"{SATURATION_SECONDS:.0f} s; a round counts against the mean of that before and after.",
        table(
            ["What", "Measured", "Bound", "Kept"],
            [
                (what, value, bound, "yes" if kept else "**no**")
                for what, value, bound, kept in checks
            ],
        ),
        table(
            [
                "Executions",
                "Saturation, 1/s",
                "Sent",
                "In time",
                "Late",
                "Refused",
                "Given up",
                "Share",
            ],
            [
                (
                    executions,
                    f"{one.saturation:.1f}",
                    len(one.seconds),
                    one.in_time(deadline_seconds),
                    one.answered - one.in_time(deadline_seconds),
                    one.refused,
                    len(one.seconds) - one.answered - one.refused,
                    f"{share_of(one):.1%}",
                )
                for executions, ones in (
                    ("one on each core under load, the default", outcomes),
                    ("one on all cores", one_at_a_time),
                )
                for one in ones
            ],
        ),
        "Late: answered after the deadline. Refused: on arrival. Given up: at the deadline, while "
        "waiting or running. The bounds are those of the default; one execution on all cores is "
        "`--max-concurrent-executions 1`, for comparison.",
    )
    if not all(kept for *_, kept in checks):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
