"""What encryption and tokens cost: throughput, a flood of wrong tokens, how long a look takes."""

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import INFER, check_installed, flood, load, load_at_rate
from bench.machine import machine
from bench.networks import repository_of_one
from bench.performance import infer_request
from convd.service.access.principals_file import new_token, read_principals
from convd.service.access.roster import Roster
from convd.service.access.scopes import EVERYTHING
from testbed.authorities import Authority
from testbed.principals import write_principals
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/access.md")
CONCURRENCY = 16
LEAST_THROUGHPUT = 0.80
FLOOD_PER_SECOND = 1000
MOST_FLOOD_CORES = 0.1
LOOKS = 100_000

_WRONG = "convd_" + "x" * 43


@dataclass(frozen=True)
class Way:
    """One way to reach the server.

    Attributes:
        name: What it is called in the table.
        tls: Whether it is encrypted.
        tokens: Whether it asks for a token.
    """

    name: str
    tls: bool
    tokens: bool


WAYS = (
    Way("plain", tls=False, tokens=False),
    Way("tokens", tls=False, tokens=True),
    Way("TLS", tls=True, tokens=False),
    Way("TLS and tokens", tls=True, tokens=True),
)


def main() -> None:
    """Measure and write the page; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2.0)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    request = infer_request("lenet5")
    with (
        repository_of_one(RUN / "repository", "lenet5") as repository,
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        principals = Path(folder) / "principals.json"
        token = write_principals(principals, {"bench": EVERYTHING})["bench"]
        servers = {
            way: stack.enter_context(_server(repository, way, Path(folder), principals, token))
            for way in WAYS
        }
        rates = _throughput(servers, request, token, chosen.rounds, chosen.seconds)
        guarded = servers[WAYS[1]]
        flood_cores, undisturbed, disturbed = _flood(guarded, request, token)
        looks = _looks(Roster(read_principals(principals)), token)
    shares = {
        way: statistics.median(
            rate / plain for rate, plain in zip(rates[way], rates[WAYS[0]], strict=True)
        )
        for way in WAYS
    }
    write_document(
        DOCUMENT,
        "What encryption and tokens cost",
        before,
        f"LeNet over gRPC, {CONCURRENCY} callers, one image in a request; the server has one core, "
        f"the callers another. Medians of {chosen.rounds} rounds of {chosen.seconds:g} s, in which "
        f"the servers take turns. Bound: at least {LEAST_THROUGHPUT} with TLS and tokens.",
        table(
            ["Way", "Requests per second", "Of the plain way"],
            [
                [way.name, f"{statistics.median(rates[way]):,.0f}", f"{shares[way]:.3f}"]
                for way in WAYS
            ],
        ),
        f"{FLOOD_PER_SECOND} calls per second with a wrong token cost the server "
        f"{flood_cores:.3f} of a core (bound: {MOST_FLOOD_CORES}). A caller with a valid token "
        f"waited {undisturbed * 1e3:.2f} ms without them and {disturbed * 1e3:.2f} ms with them "
        "(medians).",
        f"How long the search for a token takes, over {LOOKS:,} tries of each kind in random "
        "order:",
        table(
            ["Token", "Median ns", "Mean of the middle half, ns"],
            [
                [kind, f"{statistics.median(times):,.0f}", f"{_middle(times):,.1f}"]
                for kind, times in looks.items()
            ],
        ),
        f"How far a wrong token agrees with a valid one changes the mean by "
        f"{_spread(looks):.1f} ns; the same kind differs from itself, in two random halves, by up "
        f"to {_noise(looks):.1f} ns.",
    )
    if shares[WAYS[-1]] < LEAST_THROUGHPUT or flood_cores > MOST_FLOOD_CORES:
        raise SystemExit(1)


@contextmanager
def _server(
    repository: Path, way: Way, folder: Path, principals: Path, token: str
) -> Iterator[ServerProcess]:
    flags: list[object] = []
    authority = None
    if way.tls:
        signer = Authority(folder)
        certificate, key = signer.issue("server")
        authority = signer.certificate_file
        flags += ["--tls-certificate", certificate, "--tls-key", key]
    if way.tokens:
        flags += ["--principals", principals]
    log = RUN / f"access-{way.name.replace(' ', '-')}.log"
    with server_process(
        repository, log, *flags, cores={_first_core()}, authority=authority, token=token
    ) as server:
        yield server


def _throughput(
    servers: dict[Way, ServerProcess], request: Path, token: str, rounds: int, seconds: float
) -> dict[Way, list[float]]:
    rates: dict[Way, list[float]] = {way: [] for way in servers}
    for number in range(rounds):
        # The one that comes first takes turns too.
        for way in sorted(servers, key=WAYS.index, reverse=bool(number % 2)):
            rates[way].append(
                load(
                    servers[way].address,
                    INFER,
                    request,
                    concurrency=CONCURRENCY,
                    seconds=seconds,
                    cores={max(os.sched_getaffinity(0))},
                    token=token if way.tokens else "",
                    tls=way.tls,
                ).requests_per_second
            )
    return rates


def _flood(server: ServerProcess, request: Path, token: str) -> tuple[float, float, float]:
    """Cores that a flood takes, and median seconds of a valid call without it and under it."""
    client = {max(os.sched_getaffinity(0))}

    def send_wrong_tokens(seconds: float) -> None:
        flood(
            server.address,
            INFER,
            request,
            requests_per_second=FLOOD_PER_SECOND,
            seconds=seconds,
            token=_WRONG,
            cores=client,
        )

    def median_seconds() -> float:
        return statistics.median(
            load_at_rate(
                server.address,
                INFER,
                request,
                requests_per_second=50,
                seconds=4.0,
                deadline_seconds=5.0,
                token=token,
                cores=client,
            )
        )

    send_wrong_tokens(1.0)
    cpu_before, began = server.cpu_seconds(), time.monotonic()
    time.sleep(2.0)
    idle_cores = (server.cpu_seconds() - cpu_before) / (time.monotonic() - began)
    refused, cpu_before, began = _refused(server), server.cpu_seconds(), time.monotonic()
    send_wrong_tokens(8.0)
    idle_seconds = idle_cores * (time.monotonic() - began)
    cpu_seconds = server.cpu_seconds() - cpu_before - idle_seconds
    refused = _refused(server) - refused
    if refused < 0.9 * 8 * FLOOD_PER_SECOND:
        raise SystemExit(f"only {refused:.0f} calls of the flood were refused")
    undisturbed = median_seconds()
    disturbing = threading.Thread(target=send_wrong_tokens, args=(5.0,))
    disturbing.start()
    disturbed = median_seconds()
    disturbing.join()
    return cpu_seconds / refused * FLOOD_PER_SECOND, undisturbed, disturbed


def _refused(server: ServerProcess) -> float:
    counted = server.counted("convd_principal_requests_total")
    return sum(count for labels, count in counted.items() if "UNAUTHENTICATED" in labels)


def _looks(roster: Roster, valid: str) -> dict[str, list[int]]:
    """Nanoseconds of each search, by kind of token."""

    def other(character: str) -> str:
        return "A" if character != "A" else "B"

    first = len("convd_")
    kinds = {
        "first character wrong": valid[:first] + other(valid[first]) + valid[first + 1 :],
        "last character wrong": valid[:-1] + other(valid[-1]),
        "another token": new_token(),
    }
    order = [kind for kind in kinds for _ in range(LOOKS)]
    random.Random(0).shuffle(order)  # noqa: S311 - not for secrets
    taken: dict[str, list[int]] = {kind: [] for kind in kinds}
    clock = time.perf_counter_ns
    for kind in order:
        token = kinds[kind]
        began = clock()
        roster.of_token(token)
        taken[kind].append(clock() - began)
    return taken


def _middle(times: list[int]) -> float:
    ordered = sorted(times)
    quarter = len(ordered) // 4
    return statistics.fmean(ordered[quarter:-quarter])


def _spread(looks: dict[str, list[int]]) -> float:
    means = [_middle(times) for times in looks.values()]
    return max(means) - min(means)


def _noise(looks: dict[str, list[int]]) -> float:
    return max(abs(_middle(times[::2]) - _middle(times[1::2])) for times in looks.values())


def _first_core() -> int:
    return min(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
