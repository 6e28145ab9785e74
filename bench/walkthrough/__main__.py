"""Writes docs/walkthrough.md."""

import tempfile
import time
from pathlib import Path

from bench.machine import machine
from bench.walkthrough import formulas, lessons
from bench.walkthrough.network import train_lenet

PAGE = Path("docs/walkthrough.md")

INTRODUCTION = """# From a matrix of pixels to a trained network

How a convolutional network sees, for a reader who knows tables and sums and has not met one yet.
Every number and figure on this page was computed by `make walkthrough`; each formula is in
`bench/walkthrough/formulas.py` and tested against PyTorch. The network learns to tell a dog, a
cat, a boat and a bird that convd draws itself.
"""


def main() -> None:
    """Train three small networks, compute every section, and write the page."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained = {kind: train_lenet(kind, Path(folder, kind)) for kind in formulas.POOLINGS}
    best = trained["max"]
    sections = [
        INTRODUCTION,
        lessons.pixels(),
        lessons.convolution(),
        lessons.sizes(),
        lessons.relu_and_pooling(best),
        lessons.shifts(trained),
        lessons.classifier(best),
        lessons.one_step(),
        lessons.training(best),
        lessons.architectures(),
    ]
    minutes = (time.monotonic() - began) / 60
    sections.append(f"Written in {minutes:.1f} minutes on: {machine()}\n")
    PAGE.write_text("\n".join(sections), encoding="utf-8")
    print(f"written: {PAGE} after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
