"""`make pointing`: whether explanations of every architecture point at what is in the picture.

The pointing game of Zhang et al., "Top-Down Neural Attention by Excitation Backprop", ECCV 2016,
with the centre of mass of a map in place of its peak. Each network is trained, exported, served and
asked by the commands and the client that a user has. Writes docs/pointing.md.
"""

import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.command_line import convd, server
from bench.machine import machine
from bench.zoo import RECIPES
from convd.artifact.bundle import Artifact
from convd.artifact.repository import ModelRepository
from convd.client.client import Client
from convd.models.data.drawn import LABELS, Box, DrawnDataset
from convd.models.registry import find_architecture

RUN = Path("runs/pointing")
REPOSITORY = RUN / "repository"
REPORT = Path("docs/pointing.md")

INPUT_SIZE = 64
PICTURES = 200
SEED = 1_000_001
"""Of pictures that neither training nor its measurement has seen."""

SHARES = (0.35, 0.5)
"""Smaller than in training, so that fewer of them reach over the middle of the picture, where a map
without knowledge points."""

LEAST_ACCURACY = 0.9
LEAST_HITS = 0.9


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    input_size: int
    seconds: float
    accuracy: float
    method: str
    hits: float
    chance: float
    seconds_each: float


def main(names: list[str]) -> None:
    """Train, export, serve and play with each network, then write the report.

    Args:
        names: Networks to train again, the others being those of the last run; empty for all.
    """
    RUN.mkdir(parents=True, exist_ok=True)
    for name in names or RECIPES:
        began = time.monotonic()
        architecture = find_architecture(name)
        size = architecture.maximum_input_size or max(INPUT_SIZE, architecture.minimum_input_size)
        recipe = RECIPES[name]
        convd(
            *("train", name, "--data", "drawn:", "--classes", ",".join(LABELS)),
            *("--input-size", min(size, INPUT_SIZE), "--epochs", recipe.epochs, *recipe.options),
            *("--output", RUN / name, "--overwrite"),
        )
        convd("export", RUN / name, "--name", name, "--repository", REPOSITORY, "--features")
        (RUN / f"{name}.seconds").write_text(f"{time.monotonic() - began:.1f}")
    with server(REPOSITORY, RUN / "server.log", "--provider", "cpu") as running:
        published = ModelRepository(REPOSITORY).models()
        with Client(running.address, timeout_seconds=600) as client:
            rows = [_play(name, client) for name in RECIPES if name in published]
    REPORT.write_text(_report(rows, machine()), encoding="utf-8")
    print(f"\nwritten: {REPORT}")
    _check(rows)


def is_hit(heat: list[list[float]], box: Box) -> bool:
    """Whether the centre of mass of a map's positive part lies in a box."""
    mass = np.maximum(np.nan_to_num(np.array(heat)), 0)
    if not mass.any():
        return False
    rows, columns = np.mgrid[: mass.shape[0], : mass.shape[1]] + 0.5
    x, y = (mass * columns).sum() / mass.sum(), (mass * rows).sum() / mass.sum()
    return bool(box.left <= x <= box.right and box.top <= y <= box.bottom)


def _play(name: str, client: Client) -> Row:
    repository = ModelRepository(REPOSITORY)
    manifest = Artifact.open(repository.version_path(name, max(repository.versions(name)))).manifest
    assert manifest.accuracy is not None  # noqa: S101
    pictures = DrawnDataset(PICTURES, SEED, shares=SHARES)
    hits, chance, method = 0, 0.0, ""
    began = time.monotonic()
    for index in range(PICTURES):
        drawing = pictures.drawing(index)
        file = io.BytesIO()
        drawing.picture.save(file, "PNG")
        truth = LABELS[pictures.target(index)]
        found = client.explain(file.getvalue(), name, label=truth)
        method, box = found.method, drawing.box
        hits += is_hit(found.heat, box)
        # What a map without any knowledge reaches: its centre is that of the picture.
        width, height = drawing.picture.size
        middle = box.left <= width / 2 <= box.right and box.top <= height / 2 <= box.bottom
        chance += middle / PICTURES
    return Row(
        name=name,
        input_size=manifest.preprocessing.output_size.height,
        seconds=float((RUN / f"{name}.seconds").read_text()),
        accuracy=manifest.accuracy.top1,
        method=method,
        hits=hits / PICTURES,
        chance=chance,
        seconds_each=(time.monotonic() - began) / PICTURES,
    )


def _check(rows: list[Row]) -> None:
    missed = [f"{name}: not trained" for name in RECIPES.keys() - {row.name for row in rows}]
    missed += [
        f"{row.name}: {row.accuracy:.1%} held out, {row.hits:.1%} hits"
        for row in rows
        if row.accuracy < LEAST_ACCURACY or row.hits < LEAST_HITS
    ]
    if missed:
        raise SystemExit("\n".join(["below what is promised:", *missed]))


def _report(rows: list[Row], where: str) -> str:
    lines = [
        "# Do explanations point at what is in the picture?",
        "",
        f"Each network is trained on `drawn:`, and explains its answers to {PICTURES} pictures "
        "that it has never seen. An explanation hits if the centre of mass of its map lies in the "
        "box of the one object. `make pointing` writes this page.",
        "",
        "| network | input | held-out accuracy | method | hits | of a map without knowledge "
        "| seconds an explanation | seconds to train and export |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.name} | {row.input_size} x {row.input_size} | {row.accuracy:.1%} | {row.method} "
        f"| {row.hits:.1%} | {row.chance:.1%} | {row.seconds_each:.2f} | {row.seconds:,.0f} |"
        for row in rows
    ]
    lines += [
        "",
        "- *Class activation* reads the map from the answer; *occlusion* asks 81 times with a "
        "part covered.",
        "- *A map without knowledge* has its centre in the middle of the picture, which lies in "
        "many of the boxes.",
        "",
        f"Machine: {where}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
