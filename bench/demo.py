"""`make demo`: from a real data set to a real probability over gRPC, with nothing left out.

Every step is the command that a user would type; this module only types them.
"""

import json
import os
from pathlib import Path

from bench.command_line import convd, server
from convd.models.data import load_dataset

RUN = Path("runs/demo")
CHECKPOINT = RUN / "checkpoint"
REPOSITORY = RUN / "repository"
# A digit as most are; the first one that is held out is a 5 that looks like a 9.
SHOWN_DIGIT = 7


NEXT = f"""
That was the whole way. To go on, serve the model, and leave the server running:

    make serve

Then look at its console, http://127.0.0.1:8002, and ask it from another terminal:

    .venv/bin/convd classify {RUN}/digit.png --model digits"""


def main() -> None:
    """Train, export, serve, classify, and read the request counter back."""
    convd("train", "lenet", "--data", "digits", "--output", CHECKPOINT, "--overwrite")
    model = ("--name", "digits", "--repository", REPOSITORY)
    convd("export", CHECKPOINT, *model, "--calibrate", "digits")
    with server(REPOSITORY, RUN / "server.log") as running:
        image, label = _held_out_digit()
        print(f"\n# a held-out digit of class {label!r}")
        ask = ("classify", image, "--model", "digits", "--top-k", 0, "--server", running.address)
        convd(*ask)
        answer = json.loads(convd(*ask, "--json", capture=True))
        metrics = running.metrics()
    best = answer["classes"][0]["label"]
    if best != label:
        raise SystemExit(f"the network took a {label!r} for a {best!r}")
    print("\n# what the server counted")
    counters = [line for line in metrics.splitlines() if _is_our_counter(line)]
    if not counters:
        raise SystemExit("/metrics shows no classified request")
    print("\n".join(counters))
    print(NEXT)


def _held_out_digit() -> tuple[Path, str]:
    """Write a digit that training never saw as a PNG."""
    held_out = load_dataset("digits").held_out
    path = RUN / "digit.png"
    held_out.picture(SHOWN_DIGIT).save(path)
    return path, held_out.labels[held_out.target(SHOWN_DIGIT)]


def _is_our_counter(line: str) -> bool:
    return line.startswith("convd_requests_total{") and "/Classify" in line


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
