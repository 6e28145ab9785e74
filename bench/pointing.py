"""`make pointing`: whether explanations of every architecture point at what is in the picture.

The pointing game of Zhang et al., "Top-Down Neural Attention by Excitation Backprop", ECCV 2016,
with the centre of mass of a map in place of its peak, played with the networks of the zoo. Writes
docs/pointing.md.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.command_line import server
from bench.document import table
from bench.machine import machine
from bench.zoo_training import RECIPES, REPOSITORY, RUN, train_and_publish
from convd.artifact.bundle import Artifact
from convd.artifact.repository import ModelRepository
from convd.client.client import Client
from convd.models.data.drawn import LABELS, Box, DrawnDataset

REPORT = Path("docs/pointing.md")

PICTURES = 200
SEED = 2_000_003
"""Of pictures that neither training nor its measurement nor the choice of a method has seen."""

SHARES = (0.35, 0.5)
"""Smaller than in training, so that fewer of them reach over the middle of the picture, where a map
without knowledge points."""

LEAST_HITS = 0.9


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: The network.
        input_size: Height and width of its input.
        accuracy: On the held-out pictures of its training.
        right: Share of these pictures that it answers rightly.
        method: How it explains by default.
        hits: Share of the maps that hit.
        class_activation_hits: The same for class activation maps; None where it has none.
        chance: Share of the boxes that a map without knowledge hits.
        seconds_each: For one explanation.
    """

    name: str
    input_size: int
    accuracy: float
    right: float
    method: str
    hits: float
    class_activation_hits: float | None
    chance: float
    seconds_each: float


def main() -> None:
    """Play with each network of the zoo, then write the report."""
    where = machine()
    train_and_publish()
    with (
        server(REPOSITORY, RUN / "server.log", "--provider", "cpu") as running,
        Client(running.address, timeout_seconds=600) as client,
    ):
        rows = [_play(name, client) for name in RECIPES]
    REPORT.write_text(_report(rows, where), encoding="utf-8")
    print(f"\nwritten: {REPORT}")
    missed = [f"{row.name}: {row.hits:.1%} hits" for row in rows if row.hits < LEAST_HITS]
    if missed:
        raise SystemExit("\n".join(["below what is promised:", *missed]))


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
    has_maps = manifest.features is not None and manifest.features.map_shape is not None
    pictures = DrawnDataset(PICTURES, SEED, shares=SHARES)
    right = hits = class_activation_hits = chance = 0
    method, seconds = "", 0.0
    for index in range(PICTURES):
        drawing = pictures.drawing(index)
        file = io.BytesIO()
        drawing.picture.save(file, "PNG")
        truth, box = LABELS[pictures.target(index)], drawing.box
        right += client.classify(file.getvalue(), name).label == truth
        began = time.monotonic()
        found = client.explain(file.getvalue(), name, label=truth)
        seconds += time.monotonic() - began
        method = found.method
        hits += is_hit(found.heat, box)
        if has_maps:
            by_maps = client.explain(file.getvalue(), name, label=truth, method="class-activation")
            class_activation_hits += is_hit(by_maps.heat, box)
        # What a map without any knowledge reaches: its centre is that of the picture.
        width, height = drawing.picture.size
        chance += box.left <= width / 2 <= box.right and box.top <= height / 2 <= box.bottom
    return Row(
        name=name,
        input_size=manifest.preprocessing.output_size.height,
        accuracy=manifest.accuracy.top1,
        right=right / PICTURES,
        method=method,
        hits=hits / PICTURES,
        class_activation_hits=class_activation_hits / PICTURES if has_maps else None,
        chance=chance / PICTURES,
        seconds_each=seconds / PICTURES,
    )


def _report(rows: list[Row], where: str) -> str:
    headings = (
        *("network", "input", "held-out accuracy", "right on these", "method", "hits"),
        *("hits by class activation", "hits without knowledge", "seconds an explanation"),
    )
    lines = [
        (
            row.name,
            f"{row.input_size} x {row.input_size}",
            f"{row.accuracy:.1%}",
            f"{row.right:.1%}",
            row.method,
            f"{row.hits:.1%}",
            "" if row.class_activation_hits is None else f"{row.class_activation_hits:.1%}",
            f"{row.chance:.1%}",
            f"{row.seconds_each:.2f}",
        )
        for row in rows
    ]
    return f"""# Do explanations point at what is in the picture?

The networks of [the zoo](zoo.md), trained on `drawn:`, explain {PICTURES} pictures that they have
never seen, each for the class of the one object in it. An explanation hits if the centre of mass of
its map lies in the object's box (the pointing game of Zhang et al., 2016). `make pointing` writes
this page.

{table(headings, lines)}

- *Right on these*: objects take {SHARES[0]:.0%} to {SHARES[1]:.0%} of a picture's side. In training
  they take 50% to 90%, and reach over the middle of nearly every picture. A network that does not
  recognise an object still has to say where what resembles it lies.
- *Method* is what `Explain` chooses: *class-activation* reads the map from the answer, *occlusion*
  asks 81 times with a part covered. At 64 x 64 the last maps of most networks have 2 x 2 cells, too
  few to show a place: *hits by class activation* are those with `--method class-activation`, where
  a network has such maps.
- *Without knowledge*: a map whose centre is that of the picture.

Machine: {where}
"""


if __name__ == "__main__":
    main()
