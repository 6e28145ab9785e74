"""What a processor quota costs: a quota of one core against one core alone (needs root)."""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.document import table, write_document
from bench.h2load import CLASSIFY, check_installed, load, write_request
from bench.machine import machine
from bench.networks import repository_of_one
from bench.rounds import in_turn
from convd.commands.load_generator import random_requests
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/quota.md")
NETWORK = "resnet18"
CONCURRENCY = 8
LEAST_SHARE = 0.95
_PERIOD_MICROSECONDS = 100_000
_ENTER = 'echo $$ > "$0/cgroup.procs"; exec "$@"'


def main() -> None:
    """Measure in turn, write the page, and exit 1 if the bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--seconds", type=float, default=3.0)
    chosen = options.parse_args()
    check_installed()
    before = machine()
    message = random_requests(NETWORK, (224, 224, 3))[0].SerializeToString()
    request = write_request(RUN / f"{NETWORK}.request", message)
    with repository_of_one(RUN / "repository", NETWORK) as repository, _group() as group:
        quota = server_process(repository, RUN / "quota.log", under=["sh", "-c", _ENTER, group])
        alone = server_process(repository, RUN / "alone.log", cores={0})
        with quota as with_quota, alone as on_one_core:
            servers = [with_quota, on_one_core]
            rates: dict[ServerProcess, list[float]] = {server: [] for server in servers}
            for number in range(chosen.rounds + 1):
                for server in in_turn(servers, number):
                    rates[server].append(_rate(server, request, chosen.seconds))
            threads = [_threads(server) for server in servers]
    # The first round warms up.
    shares = [one / other for one, other in zip(*rates.values(), strict=True)][1:]
    share = statistics.median(shares)
    kept = share >= LEAST_SHARE and threads[0] == threads[1] == 1
    write_document(
        DOCUMENT,
        "A processor quota",
        before,
        f"`make quota`: {NETWORK}, {CONCURRENCY} callers (h2load), rounds of "
        f"{chosen.seconds:g} s in turn. With the quota the server may run on every core, for one "
        "core's time in all; convd takes as many threads as the quota has cores.",
        table(
            ["Server", "Images a second, median", "Threads of a batch"],
            [
                (name, f"{statistics.median(rates[server][1:]):.1f}", count)
                for name, server, count in zip(
                    ["a quota of one core", "on one core"], servers, threads, strict=True
                )
            ],
        ),
        f"With the quota: {share:.2f} of the rate on one core (median of the rounds; bound "
        f"{LEAST_SHARE}: {'kept' if kept else '**missed**'}). Rounds: "
        f"{', '.join(f'{one:.2f}' for one in shares)}.",
    )
    sys.exit(not kept)


def _rate(server: ServerProcess, request: Path, seconds: float) -> float:
    return load(
        server.address, CLASSIFY, request, concurrency=CONCURRENCY, seconds=seconds
    ).requests_per_second


def _threads(server: ServerProcess) -> int:
    """How many threads the server said a batch has; a lone one is a session on one core."""
    (line,) = (line for line in server.log.read_text().splitlines() if " thread" in line)
    return int(line.partition(" thread")[0].rsplit(maxsplit=1)[-1])


@contextlib.contextmanager
def _group() -> Iterator[Path]:
    """A cgroup with the time of one core."""
    version_1 = Path("/sys/fs/cgroup/cpu")
    parent = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group = parent / "convd-bench-quota"
    group.mkdir(exist_ok=True)
    try:
        if version_1.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
            (group / "cpu.cfs_quota_us").write_text(str(_PERIOD_MICROSECONDS))
        else:
            (group / "cpu.max").write_text(f"{_PERIOD_MICROSECONDS} {_PERIOD_MICROSECONDS}")
        yield group
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()
