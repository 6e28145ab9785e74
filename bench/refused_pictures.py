"""Does memory stay flat when pictures of 1 to 16 megapixels are refused, one after another?

A refused picture must leave nothing that only the garbage collector would free, since it comes
rarely: so the server runs with the collector off.
"""

import argparse
import io
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.document import memory_table, statuses, write_document
from bench.h2load import CLASSIFY, check_installed, load_count, write_request
from bench.machine import machine
from bench.networks import repository_of_one
from convd.protos.convd.v1 import classification_pb2 as pb
from testbed.server import server_process

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/refused-pictures.md")
STEPS = 10
MEGAPIXELS = (1, 2, 4, 8, 16)
MAX_GROWTH_MEBIBYTES = 50
_FORMATS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("JPEG", "JPEG", {"quality": 50}),
    ("progressive JPEG", "JPEG", {"quality": 50, "progressive": True}),
    ("PNG", "PNG", {"compress_level": 1}),
    ("WebP", "WEBP", {"method": 0}),
)
_AT_ONCE = 8
_MEBIBYTE = 1024 * 1024


def main() -> None:
    """Send them, look at resident memory on the way; exit 1 if it has grown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pictures", type=int, default=10_000)
    chosen = options.parse_args()
    before = machine()
    check_installed()
    with repository_of_one(RUN / "repository", "lenet5") as repository:
        memory, codes = _refuse(repository, list(_requests()), chosen.pictures)
    growth_mebibytes = (max(size for _, size in memory) - memory[0][1]) / _MEBIBYTE
    flat = growth_mebibytes <= MAX_GROWTH_MEBIBYTES and "OK" not in codes
    sizes = ", ".join(map(str, MEGAPIXELS))
    formats = ", ".join(name for name, *_ in _FORMATS)
    write_document(
        DOCUMENT,
        "Refused pictures",
        before,
        f"`make drills-load`: pictures of {sizes} megapixels that end half-way ({formats}), "
        f"{_AT_ONCE} at a time, with the garbage collector off. Statuses: "
        f"{statuses(codes)}. Resident memory grows "
        f"by {growth_mebibytes:.1f} MiB; at most {MAX_GROWTH_MEBIBYTES} are allowed: "
        f"{'kept' if flat else '**missed**'}.",
        memory_table("Refused pictures", memory),
    )
    if not flat:
        raise SystemExit(1)


def _refuse(
    repository: Path, requests: list[Path], pictures: int
) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Resident bytes by the number of pictures so far, and how the calls ended.

    The first look is after one step: by then every pool has been filled once.
    """
    each = max(1, pictures // STEPS // len(requests))
    memory = []
    sent = 0
    log = RUN / "refused.log"
    with server_process(repository, log, collects_garbage=False) as server:
        for _ in range(STEPS + 1):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                loads = [
                    pool.submit(load_count, server.address, CLASSIFY, request, each)
                    for request in requests
                ]
                sent += sum(one.result() for one in loads)
            memory.append((sent, server.resident_bytes()))
            print(f"{sent} pictures, {memory[-1][1] / _MEBIBYTE:.1f} MiB", flush=True)
        codes: dict[str, int] = {}
        for labels, count in server.counted("convd_requests_total").items():
            code = labels.partition('code="')[2].partition('"')[0]
            codes[code] = codes.get(code, 0) + int(count)
    return memory, codes


def _requests() -> Iterator[Path]:
    """A request for each size and format, as h2load sends it."""
    for megapixels in MEGAPIXELS:
        side = round(math.sqrt(megapixels * 1_000_000))
        coarse = np.random.default_rng(side).integers(0, 256, (side // 16, side // 16, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
        for name, image_format, options in _FORMATS:
            file = io.BytesIO()
            picture.save(file, image_format, **options)
            image = pb.Image(encoded=file.getvalue()[: file.tell() // 2])
            request = pb.ClassifyRequest(model=pb.ModelSpec(name="lenet5"), images=[image])
            path = RUN / "refused" / f"{megapixels}-{name.replace(' ', '-')}"
            yield write_request(path, request.SerializeToString())


if __name__ == "__main__":
    main()
