"""`make small-folder`: a small folder with the defaults of training; writes docs/small-folder.md.

Four kinds of drawn shapes, sixty pictures each, once from random weights and once from a ResNet-18
that has learned handwritten digits.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from bench.command_line import convd
from bench.machine import machine
from convd.models.records import METRICS_FILE, EpochRecord
from testbed.drawn_pictures import SHAPES, draw_folder

RUN = Path("runs/small-folder")
REPORT = Path("docs/small-folder.md")
PICTURES = 60
EPOCHS = 10
SEEDS = range(3)
LEAST_ACCURACY = 0.75
STARTS = {"random weights": (), "digits": ("--init", RUN / "digits")}


def main() -> None:
    """Draw, train with every seed and start, write the report, and fail if it shows too little."""
    where, began = machine(), time.monotonic()
    shutil.rmtree(RUN, ignore_errors=True)
    draw_folder(RUN / "photos", pictures=PICTURES)
    convd("train", "resnet18", "--data", "digits", "--input-size", 64, "--epochs", 3,
          "--output", RUN / "digits")  # fmt: skip
    curves = {(start, seed): _accuracies(start, seed) for start in STARTS for seed in SEEDS}
    minutes = (time.monotonic() - began) / 60
    REPORT.write_text(_report(curves, where, minutes), encoding="utf-8")
    print(f"\nwritten: {REPORT}")
    missed = [
        f"{start}, seed {seed}: {curve[-1]:.1%}"
        for (start, seed), curve in curves.items()
        if curve[-1] < LEAST_ACCURACY
    ]
    random, digits = (
        sum(sum(curves[start, seed]) for seed in SEEDS) / len(SEEDS) / EPOCHS for start in STARTS
    )
    if digits <= random:
        missed.append(f"--init: {digits:.1%} on average over the epochs, {random:.1%} without")
    if missed:
        sys.exit("missed: " + "; ".join(missed))


def _accuracies(start: str, seed: int) -> list[float]:
    """Accuracy on the held-out pictures after each epoch."""
    output = RUN / f"{start.replace(' ', '-')}-{seed}"
    convd("train", "resnet18", "--data", f"folder:{RUN / 'photos'}", "--input-size", 64,
          "--epochs", EPOCHS, "--seed", seed, "--output", output, *STARTS[start])  # fmt: skip
    lines = (output / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return [EpochRecord.model_validate(json.loads(line)).watched_accuracy for line in lines]


def _report(curves: dict[tuple[str, int], list[float]], where: str, minutes: float) -> str:
    rows = [
        f"| {start} | {seed} | " + " | ".join(f"{each:.0%}" for each in curve) + " |"
        for (start, seed), curve in curves.items()
    ]
    epochs = range(1, EPOCHS + 1)
    return "\n".join(
        [
            "# A small folder, with the defaults",
            "",
            f"`convd train resnet18 --data folder:photos --input-size 64 --epochs {EPOCHS}` on "
            f"{len(SHAPES)} classes of {PICTURES} drawn pictures ({', '.join(SHAPES)}), of any "
            "colour, size and place on a noisy ground. A fifth of each class is held out, by "
            "`--seed`. The second start is `--init` with a ResNet-18 that has seen scikit-learn's "
            "digits for three epochs. `make small-folder` writes this page; "
            "[22](decisions/0022-training-small-folders.md) has the reasons for the defaults.",
            "",
            "Accuracy on the held-out pictures after each epoch:",
            "",
            "| start | seed | " + " | ".join(map(str, epochs)) + " |",
            "| --- | ---: |" + " ---: |" * EPOCHS,
            *rows,
            "",
            f"Machine: {where} The whole run took {minutes:.0f} minutes.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
