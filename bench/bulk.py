"""`convd batch` on 20,000 pictures: its rate, a run that is killed, and files that are broken.

It is measured against `bench.bare_pipeline`. Both are processes that take the same files to the
same probabilities, and take turns; both are timed from their start to their end. convd's time
includes the self-test and the writing of its output.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.bare_pipeline import BATCH_SIZE, MODEL
from bench.document import table, write_document
from bench.machine import machine
from bench.rounds import in_turn
from testbed.drawn_pictures import SHAPES, draw

DOCUMENT = Path("docs/drills/bulk.md")
LEAST_SHARE = 0.90
BROKEN = 200
_DISTINCT = 400
_PICTURES_PER_PART = 500


def main() -> None:
    """Measure, kill and break; write the document, and exit 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path, default=DOCUMENT)
    arguments = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _draw(folder / "pictures", arguments.pictures)
        pictures = folder / "pictures"
        bare_command = [sys.executable, "-m", "bench.bare_pipeline", str(pictures)]
        bare: list[float] = []
        bulk: list[float] = []
        for number in range(arguments.rounds):
            turns = [
                partial(_time, bare, bare_command),
                partial(_time, bulk, _command(pictures, folder / f"output-{number}")),
            ]
            for turn in in_turn(turns, number):
                turn()
        _break(files)
        undisturbed = _rows(folder, "undisturbed")
        done, parts = _kill_halfway(folder, "killed")
        resumed = _rows(folder, "killed")
    share = statistics.median(one / other for one, other in zip(bare, bulk, strict=True))
    errors = undisturbed["error"]
    whole = len(errors) - errors.null_count
    checks = {
        f"at least {LEAST_SHARE:.0%} of the bare pipeline's rate": share >= LEAST_SHARE,
        "the killed run's output equals the undisturbed one's": resumed.equals(undisturbed),
        "each picture is one row": undisturbed.num_rows == arguments.pictures
        and len(undisturbed["path"].unique()) == arguments.pictures,
        f"{BROKEN} broken pictures are {BROKEN} rows with an error": whole == BROKEN,
    }
    rates = [
        ("the bare pipeline", f"{len(files) / statistics.median(bare):.0f}", ""),
        (
            "`convd batch`",
            f"{len(files) / statistics.median(bulk):.0f}",
            f"{share:.2f}",
        ),
    ]
    write_document(
        arguments.report,
        "Bulk classification",
        before,
        f"`make bench-bulk`: {len(files)} JPEGs of 96 x 96 pixels, the demo's network, the CPU "
        f"provider; {arguments.rounds} rounds in turn, medians. The bare pipeline decodes and "
        f"prepares in a thread for each core, runs a plain session on batches of {BATCH_SIZE} and "
        "writes nothing. Both are processes, timed with their start.",
        table(["What", "Pictures/s", "Ratio"], rates),
        f"A run with {BROKEN} broken files (cut, empty, or with other bytes) was killed with -9 "
        f"when {done} of its {parts} parts were written, and started again.",
        table(
            ["Check", "Kept"],
            [(what, "yes" if kept else "**no**") for what, kept in checks.items()],
        ),
    )
    if not all(checks.values()):
        raise SystemExit(1)


def _draw(root: Path, count: int) -> list[Path]:
    """Pictures as JPEG files; beyond some hundreds they repeat, in files of their own."""
    root.mkdir()
    files = [root / f"{number:06}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if number < _DISTINCT:
            draw(SHAPES[number % len(SHAPES)], number).save(file, quality=90)
        else:
            os.link(files[number % _DISTINCT], file)
    return files


def _break(files: Sequence[Path]) -> None:
    """Cut, empty or overwrite files at even distances."""
    for number, file in enumerate(files[:: len(files) // BROKEN][:BROKEN]):
        data = file.read_bytes()
        file.unlink()
        file.write_bytes((data[: len(data) // 2], b"", b"not a picture")[number % 3])


def _time(seconds: list[float], command: Sequence[str]) -> None:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds.append(time.perf_counter() - started)


def _command(pictures: Path, output: Path, *flags: object) -> list[str]:
    words = ["batch", pictures, "--model", MODEL, "--output", output, "--provider", "cpu", *flags]
    return [sys.executable, "-m", "convd", *map(str, words)]


def _in_parts(folder: Path, name: str) -> list[str]:
    return _command(folder / "pictures", folder / name, "--pictures-per-part", _PICTURES_PER_PART)


def _rows(folder: Path, name: str) -> pa.Table:
    """Run to the end; all rows but for what they took."""
    subprocess.run(_in_parts(folder, name), check=True, capture_output=True)
    parts = sorted((folder / name).glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts]).drop_columns("seconds")


def _kill_halfway(folder: Path, name: str) -> tuple[int, int]:
    """Kill a run when half of its parts are there; how many of how many were."""
    run = subprocess.Popen(
        _in_parts(folder, name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    plan = folder / name / "plan.json"
    while not plan.exists() and run.poll() is None:
        time.sleep(0.01)
    parts = len(json.loads(plan.read_text())["parts"])
    while (done := len(list((folder / name).glob("part-*.parquet")))) < parts // 2:
        if run.poll() is not None:
            raise SystemExit("convd batch ended before it could be killed")
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    return done, parts


if __name__ == "__main__":
    main()
