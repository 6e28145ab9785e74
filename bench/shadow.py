"""What callers notice of a comparison of versions, and what it finds.

Two servers have the same two versions of the demo's LeNet-5, of which the second takes each 3 for
an 8 and each 8 for a 3. One compares a share of its answers, the other does not. Callers come at
random (Poisson) to each in turn, so the comparison gets the pauses that chance leaves.
"""

import argparse
import hashlib
import io
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np

from bench.document import table, write_document
from bench.machine import machine
from bench.rounds import in_turn
from convd.client.client import Client
from convd.client.comparison import Comparison
from convd.models.data import load_dataset
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.server import ServerProcess, server_process
from testbed.variants import write_confused

DOCUMENT = Path("docs/drills/shadow.md")
DEMO = Path("deploy/demo/digits/1")
UNLIKE = ("3", "8")
MAXIMUM_RATIO = 1.03
_LABELS = "labels: {stable: 1, canary: 2}\n"


def main() -> None:
    """Measure in turn, write the page, and exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--rate", type=float, default=100.0)
    options.add_argument("--share", type=float, default=0.1)
    chosen = options.parse_args()
    before = machine()
    pictures = _pictures()
    requests = [
        pb.ClassifyRequest(
            model=pb.ModelSpec(name="digits", version_label="stable"),
            images=[pb.Image(encoded=picture)],
        )
        for picture in pictures
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plain = _repository(root / "plain", _LABELS)
        compared = _repository(root / "compared", f"{_LABELS}shadow: {{share: {chosen.share}}}\n")
        with (
            server_process(plain, root / "plain.log") as without,
            server_process(compared, root / "compared.log") as with_shadow,
            Client(with_shadow.address) as client,
        ):
            _wait_for_comparison(client)
            p99s: dict[ServerProcess, list[float]] = {without: [], with_shadow: []}
            for number in range(chosen.rounds + 1):
                for server in in_turn(p99s, number):
                    seconds = _load(server, requests, chosen.rate, chosen.seconds, number)
                    p99s[server].append(1000 * float(np.percentile(seconds, 99)))
            (found,) = client.comparisons()
            answers = {
                hashlib.sha256(picture).hexdigest(): client.classify(
                    picture, "digits", version_label="stable"
                ).label
                for picture in pictures
            }
    # The first round warms up.
    first, second = (one[1:] for one in p99s.values())
    ratios = [one / other for one, other in zip(second, first, strict=True)]
    kept = _report(chosen, before, (first, second), ratios, found, answers)
    sys.exit(not kept)


def _pictures() -> list[bytes]:
    """Held-out digits, as PNG."""
    digits = load_dataset("digits").held_out
    files = []
    for index in range(len(digits)):
        file = io.BytesIO()
        digits.picture(index).save(file, "PNG")
        files.append(file.getvalue())
    return files


def _repository(root: Path, configuration: str) -> Path:
    model = root / "digits"
    model.mkdir(parents=True)
    shutil.copytree(DEMO, model / "1")
    write_confused(DEMO, model / "2", UNLIKE)
    (model / "config.yaml").write_text(configuration)
    return root


def _wait_for_comparison(client: Client) -> None:
    while not client.comparisons():
        time.sleep(0.1)


def _load(
    server: ServerProcess,
    requests: Sequence[pb.ClassifyRequest],
    rate: float,
    seconds: float,
    seed: int,
) -> list[float]:
    """Send requests at random, on average at a rate; how long each took, from when it was due."""
    arrivals = random.Random(seed)  # noqa: S311
    taken: list[float] = []
    pending = threading.Semaphore(0)
    with grpc.insecure_channel(server.address) as channel:
        stub = ClassificationServiceStub(channel)
        began = due = time.perf_counter()
        count = 0
        while due - began < seconds:
            due += arrivals.expovariate(rate)
            time.sleep(max(0.0, due - time.perf_counter()))

            def note(_: "grpc.Future[pb.ClassifyResponse]", due: float = due) -> None:
                taken.append(time.perf_counter() - due)
                pending.release()

            stub.Classify.future(requests[count % len(requests)], timeout=30).add_done_callback(
                note
            )
            count += 1
        for _ in range(count):
            pending.acquire()
    return taken


def _report(
    chosen: argparse.Namespace,
    before: str,
    p99s: tuple[list[float], list[float]],
    ratios: list[float],
    found: Comparison,
    answers: dict[str, str],
) -> bool:
    ratio = statistics.median(ratios)
    named = [answers[one.sha256] for one in found.most_different]
    right = sum(label in UNLIKE for label in named)
    unlike = sum(one.images for one in found.changes)
    expected = {UNLIKE, UNLIKE[::-1]}
    only_expected = {(one.live, one.candidate) for one in found.changes} == expected
    checks = [
        (
            "p99 of callers, to that without (median of rounds)", f"{ratio:.3f}",
            f"at most {MAXIMUM_RATIO}", ratio <= MAXIMUM_RATIO,
        ),
        (
            f"pictures named by the report that are answered {' or '.join(UNLIKE)}",
            f"{right} of {len(named)}", "all", 0 < right == len(named),
        ),
        (
            "other predictions that differ", "none" if only_expected else "some", "none",
            only_expected,
        ),
        (
            "compared pictures that agree or are named as a change",
            f"{found.top1_agreements + unlike} of {found.compared}", "all",
            found.top1_agreements + unlike == found.compared > 0,
        ),
    ]  # fmt: skip
    images = found.images
    write_document(
        DOCUMENT,
        "A comparison of versions",
        before,
        f"`make shadow-drill`: the demo's LeNet-5 and a version of it that takes each {UNLIKE[0]} "
        f"for {UNLIKE[1]} and the other way round, on two servers, of which one compares "
        f"{chosen.share:g} of its answers. Callers come at random (Poisson), {chosen.rate:g} a "
        f"second, in {chosen.rounds} rounds of {chosen.seconds:g} s to each server in turn; a "
        "request's time counts from when it was due. Client and servers share the cores.",
        table(
            ["What", "Measured", "Bound", "Kept"],
            [
                (what, value, bound, "yes" if kept else "**no**")
                for what, value, bound, kept in checks
            ],
        ),
        table(
            ["Server", "p99, ms, median of rounds", "lowest", "highest"],
            [
                (name, *(f"{value:.2f}" for value in (statistics.median(one), min(one), max(one))))
                for name, one in zip(["without a comparison", "with one"], p99s, strict=True)
            ],
        ),
        f"Of the sampled pictures {images['compared']} were compared, {images['dropped']} dropped "
        f"and {found.waiting} were waiting at the end. Ratios of the rounds: "
        f"{', '.join(f'{one:.2f}' for one in ratios)}.",
    )
    return all(kept for *_, kept in checks)


if __name__ == "__main__":
    main()
