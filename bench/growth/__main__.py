"""Measures how convd's costs grow, and writes docs/growth.md; exits with 1 at a cliff."""

import argparse
from collections.abc import Callable
from pathlib import Path

from bench.document import write_document
from bench.growth import requests, servers
from bench.growth.curve import Curve
from bench.h2load import check_installed
from bench.machine import machine

RUN = Path("runs/growth")
NETWORKS = Path("runs/bench/repository")
DOCUMENT = Path("docs/growth.md")
PICTURES = "growth"


def main() -> None:
    """Measure all curves, or some."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    chosen = options.parse_args()
    check_installed()
    before = machine()
    graphs, log, seconds = RUN / "graphs", RUN / "server.log", chosen.seconds
    measured: list[Callable[[], Curve]] = [
        lambda: requests.classes(graphs, log, seconds),
        lambda: requests.sides(graphs, log, seconds),
        lambda: requests.client_batches(NETWORKS, log, seconds),
        lambda: requests.callers(NETWORKS, log, seconds),
        lambda: servers.workers(NETWORKS, RUN, seconds),
        lambda: servers.models(NETWORKS, RUN),
    ]
    curves = []
    for measure in measured:
        curve = measure()
        curve.draw(DOCUMENT.parent / PICTURES / f"{curve.name}.svg")
        print(curve.section(PICTURES), flush=True)
        curves.append(curve)
    started = servers.starts(NETWORKS, RUN)
    write_document(
        DOCUMENT,
        "Growth",
        before,
        "`make growth`: each quantity grows alone, the rest is the default. A cost that grows much "
        "faster than its quantity from one row to the next would be marked as a cliff.",
        *(curve.section(PICTURES) for curve in curves),
        started,
    )
    if any(curve.cliffs() for curve in curves):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
