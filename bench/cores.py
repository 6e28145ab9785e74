"""What more cores do to a server in Python: convd with and without a home core, and yardsticks."""

import argparse
import contextlib
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import INFER, check_installed, load
from bench.machine import machine
from bench.networks import repository_of_one
from bench.performance import infer_request
from bench.rounds import in_turn
from bench.yardstick import yardstick
from convd.artifact.bundle import MODEL_FILE
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/performance-cores.md")
NETWORK = "lenet5"
CONCURRENCIES = (1, 16, 64)
LEAST_SHARE = 0.9
"""Of the rate on one core that has to be left on any number of them, at concurrency 16."""
HOME, SPREAD = "convd", "convd --no-home-core"
YARDSTICKS = {"runner": "a minimal runner", "echo": "a bare echo"}


def main() -> None:
    """Measure in turn, write the page, and exit 1 if the bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.5)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    request = infer_request(NETWORK)
    rows: list[tuple[object, ...]] = []
    kept_rates: dict[int, float] = {}
    with repository_of_one(RUN / "repository", NETWORK) as repository:
        for count in _counts(len(os.sched_getaffinity(0))):
            with _servers(repository, count) as servers:
                for concurrency in CONCURRENCIES:
                    seen = _rounds(servers, request, concurrency, chosen.rounds, chosen.seconds)
                    for name, measured in seen.items():
                        rate, microseconds = map(statistics.median, zip(*measured, strict=True))
                        rows.append(
                            (count, concurrency, name, f"{rate:.0f}", f"{microseconds:.0f}")
                        )
                        if name == HOME and concurrency == 16:
                            kept_rates[count] = rate
    share = min(kept_rates.values()) / kept_rates[1]
    write_document(
        DOCUMENT,
        "Cores",
        before,
        "`make bench-cores`: LeNet over gRPC, one uint8 tensor a request, clients (h2load) on "
        f"every core, {chosen.rounds} rounds of {chosen.seconds:g} s in turn, medians. The server "
        "may run on so many cores; the yardsticks are those of [performance.md](performance.md).",
        table(
            ["Cores", "Concurrency", "Server", "Requests a second", "Processor time, µs"],
            rows,
        ),
        f"convd's least rate at concurrency 16 is {share:.2f} of that on one core (at least "
        f"{LEAST_SHARE:g}). Why servers in Python get slower with more cores, and what convd does "
        "about it: [decision 38](decisions/0038-home-core.md).",
    )
    if share < LEAST_SHARE:
        raise SystemExit(1)


def _counts(cores: int) -> list[int]:
    """1, 2, 4 and so on, and all."""
    powers = [1 << power for power in range(cores.bit_length())]
    return sorted({*(count for count in powers if count < cores), cores})


@contextlib.contextmanager
def _servers(repository: Path, count: int) -> Iterator[dict[str, ServerProcess]]:
    """Every server, on the first cores that this process may use."""
    cores = set(sorted(os.sched_getaffinity(0))[:count])
    model = repository / NETWORK / "1" / MODEL_FILE
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, flag in ((HOME, "--home-core"), (SPREAD, "--no-home-core")):
            log = RUN / f"cores{flag}.log"
            flags = ("--provider", "cpu", flag)
            servers[name] = stack.enter_context(
                server_process(repository, log, *flags, cores=cores)
            )
        for mode, name in YARDSTICKS.items():
            log = RUN / f"cores-{mode}.log"
            servers[name] = stack.enter_context(yardstick(mode, model, log, cores=cores))
        yield servers


def _rounds(
    servers: dict[str, ServerProcess],
    request: Path,
    concurrency: int,
    rounds: int,
    seconds: float,
) -> dict[str, list[tuple[float, float]]]:
    """Rate and processor time of each server, in microseconds a request, in each round."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for number in range(rounds):
        for name, server in in_turn(servers.items(), number):
            before = server.cpu_seconds()
            rate = load(
                server.address, INFER, request, concurrency=concurrency, seconds=seconds
            ).requests_per_second
            # A second more is spent to warm up.
            requests = rate * (seconds + 1)
            seen[name].append((rate, (server.cpu_seconds() - before) / requests * 1e6))
    return seen


if __name__ == "__main__":
    main()
