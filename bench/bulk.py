"""`convd batch` on 20,000 pictures: its rate, a run that is killed, and files that are broken.

The bare pipeline decodes and prepares pictures in a thread for each core while a plain session runs
batches of 32, without anything around it. Both take the same files to the same probabilities, and
take turns. convd's time includes its start, the self-test and the writing of its output.
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
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq

from bench.document import table, write_document
from bench.machine import machine
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.artifact.repository import ModelRepository
from testbed.drawn_pictures import SHAPES, draw

DOCUMENT = Path("docs/drills/bulk.md")
MODEL = Path("deploy/demo/digits")
LEAST_SHARE = 0.90
BROKEN = 200
_BATCH_SIZE = 32
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
    artifact = ModelRepository(MODEL.parent).open_version(MODEL.name, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _draw(folder / "pictures", arguments.pictures)
        bare, bulk = [], []
        for number in range(arguments.rounds):
            output = folder / f"output-{number}"
            # Every second round in the reverse order, so that a machine that slows down does so
            # for both.
            if number % 2:
                bulk.append(_bulk_seconds(folder / "pictures", output))
            bare.append(_bare_seconds(artifact, files))
            if not number % 2:
                bulk.append(_bulk_seconds(folder / "pictures", output))
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
            "`convd batch`, with its start",
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
        f"prepares in a thread for each core and runs a plain session on batches of {_BATCH_SIZE}; "
        "it writes nothing, and its start is not counted.",
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


def _bare_seconds(artifact: Artifact, files: list[Path]) -> float:
    recipe = artifact.manifest.preprocessing
    session = ort.InferenceSession(artifact.read(MODEL_FILE), providers=["CPUExecutionProvider"])

    def prepare(file: Path) -> ImageArray:
        return prepare_image(decode_image(file.read_bytes()), recipe)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        prepared = pool.map(prepare, files)
        while images := list(islice(prepared, _BATCH_SIZE)):
            session.run(["probabilities"], {"image": np.stack(images)})
    return time.perf_counter() - started


def _bulk_seconds(pictures: Path, output: Path) -> float:
    started = time.perf_counter()
    subprocess.run(_command(pictures, output), check=True, capture_output=True)
    return time.perf_counter() - started


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
