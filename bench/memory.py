"""Does memory stay flat under random batch sizes?"""

import argparse
import random
from pathlib import Path

from bench.document import memory_table, statuses, write_document
from bench.machine import machine
from bench.networks import repository_of_one
from convd.client.connection import Connection
from convd.commands.load_generator import OK, Workload, random_requests, run_workload
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/memory.md")
STEPS = 10
MAXIMUM_GROWTH = 1.03
MAXIMUM_ROWS = 32
_MEBIBYTE = 1024 * 1024


def main() -> None:
    """Send requests, look at resident memory on the way; exit 1 if it has grown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=100_000)
    chosen = options.parse_args()
    before = machine()
    with (
        repository_of_one(RUN / "repository", "lenet5") as repository,
        server_process(repository, RUN / "memory.log") as server,
    ):
        memory, codes = _mixed_batches(server, chosen.requests)
    growth = memory[STEPS][1] / memory[STEPS // 2][1]
    flat = growth <= MAXIMUM_GROWTH and set(codes) == {OK}
    write_document(
        DOCUMENT,
        "Memory",
        before,
        f"`make drills-load`: LeNet-5, requests of 1 to {MAXIMUM_ROWS} images at random, 16 "
        f"callers. Resident memory of the server after the second half is {growth:.3f} times that "
        f"after the first; at most {MAXIMUM_GROWTH} is allowed: {'kept' if flat else '**missed**'}."
        f" Statuses: {statuses(codes)}.",
        memory_table("Requests", memory),
    )
    if not flat:
        raise SystemExit(1)


def _mixed_batches(
    server: ServerProcess, requests: int
) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Resident bytes by the number of requests so far, and the statuses of all."""
    sizes = random.Random(0)  # noqa: S311
    rows = [sizes.randint(1, MAXIMUM_ROWS) for _ in range(2000)]
    messages = random_requests("lenet5", (32, 32, 1), rows=rows)
    sent = 0
    memory = [(0, server.resident_bytes())]
    codes: dict[str, int] = {}
    for step in range(1, STEPS + 1):
        while sent < requests * step / STEPS:
            samples = run_workload(
                Workload(Connection(server.address), messages, seconds=2.0, concurrency=16)
            )
            sent += len(samples)
            for sample in samples:
                codes[sample.code] = codes.get(sample.code, 0) + 1
        memory.append((sent, server.resident_bytes()))
        print(f"{sent} requests, {memory[-1][1] / _MEBIBYTE:.1f} MiB", flush=True)
    return memory, codes


if __name__ == "__main__":
    main()
