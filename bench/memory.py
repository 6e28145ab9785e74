"""Does memory stay flat under random batch sizes, and when pictures are refused?

A refused picture must leave nothing that only the garbage collector would free, since it comes
rarely: so the second half runs with the collector off.
"""

import argparse
import gc
import io
import random
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from bench.document import table, write_document
from bench.h2load import CLASSIFY, check_installed, load_count, write_request
from bench.machine import machine
from bench.networks import repository_of_one
from convd.commands.load_generator import OK, Workload, random_requests, run_workload
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.application import Application
from convd.service.settings_sources import load_settings
from testbed.server import ServerProcess, server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/memory.md")
STEPS = 10
MAXIMUM_GROWTH = 1.03
MAXIMUM_ROWS = 32
MAXIMUM_REFUSED_MEBIBYTES = 50
PICTURE_SIDE = 1000
_MEBIBYTE = 1024 * 1024


def main() -> None:
    """Send both, look at resident memory on the way; exit 1 if it has grown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--pictures", type=int, default=10_000)
    chosen = options.parse_args()
    before = machine()
    check_installed()
    with repository_of_one(RUN / "repository", "lenet5") as repository:
        with server_process(repository, RUN / "memory.log") as server:
            memory, codes = _mixed_batches(server, chosen.requests)
        refused = _refused_pictures(repository, chosen.pictures)
    growth = memory[STEPS][1] / memory[STEPS // 2][1]
    grown_mebibytes = (max(size for _, size in refused) - refused[0][1]) / _MEBIBYTE
    flat = growth <= MAXIMUM_GROWTH and set(codes) == {OK}
    freed = grown_mebibytes <= MAXIMUM_REFUSED_MEBIBYTES
    write_document(
        DOCUMENT,
        "Memory",
        before,
        f"`make drills-load`: LeNet-5, requests of 1 to {MAXIMUM_ROWS} images at random, 16 "
        f"callers. Resident memory of the server after the second half is {growth:.3f} times that "
        f"after the first; at most {MAXIMUM_GROWTH} is allowed: {'kept' if flat else '**missed**'}."
        f" Statuses: {', '.join(f'{count} {code}' for code, count in codes.items())}.",
        _table("Requests", memory),
        f"JPEG pictures of {PICTURE_SIDE} x {PICTURE_SIDE} pixels that end half-way, all refused, "
        f"16 callers, with the garbage collector off. Resident memory grows by "
        f"{grown_mebibytes:.1f} MiB; at most {MAXIMUM_REFUSED_MEBIBYTES} are allowed: "
        f"{'kept' if freed else '**missed**'}.",
        _table("Refused pictures", refused),
    )
    if not (flat and freed):
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
            samples = run_workload(Workload(server.address, messages, seconds=2.0, concurrency=16))
            sent += len(samples)
            for sample in samples:
                codes[sample.code] = codes.get(sample.code, 0) + 1
        memory.append((sent, server.resident_bytes()))
        print(f"{sent} requests, {memory[-1][1] / _MEBIBYTE:.1f} MiB", flush=True)
    return memory, codes


def _refused_pictures(repository: Path, pictures: int) -> list[tuple[int, int]]:
    """Resident bytes by the number of refused pictures; the first after a hundred of them."""
    request = write_request(RUN / "truncated.request", _truncated_picture())
    settings = load_settings({"repository": repository, "grpc_port": 0, "http_port": 0})
    application = Application(settings)
    application.start()
    gc.disable()
    try:
        while application.unready_reason():
            time.sleep(0.1)
        address = f"127.0.0.1:{application.grpc_port}"
        sent = load_count(address, CLASSIFY, request, 100, concurrency=16)
        memory = [(sent, psutil.Process().memory_info().rss)]
        for _ in range(STEPS):
            sent += load_count(address, CLASSIFY, request, pictures // STEPS, concurrency=16)
            memory.append((sent, psutil.Process().memory_info().rss))
            print(f"{sent} pictures, {memory[-1][1] / _MEBIBYTE:.1f} MiB", flush=True)
    finally:
        gc.enable()
        application.drain()
    return memory


def _truncated_picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURE_SIDE, PICTURE_SIDE), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=50)
    image = pb.Image(encoded=file.getvalue()[: file.tell() // 2])
    request = pb.ClassifyRequest(model=pb.ModelSpec(name="lenet5"), images=[image])
    return request.SerializeToString()


def _table(counted: str, memory: list[tuple[int, int]]) -> str:
    return table(
        [counted, "Resident MiB"],
        [(count, f"{size / _MEBIBYTE:.1f}") for count, size in memory],
    )


if __name__ == "__main__":
    main()
