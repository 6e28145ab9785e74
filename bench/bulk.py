"""`convd batch` against the bare pipeline: decode, prepare and run, without anything around it.

The bare pipeline prepares pictures in a thread for each core while a plain session runs batches of
32. Both take the same files to the same probabilities; runs alternate, and the fastest of each
count.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime as ort

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.location import locate
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.artifact.repository import ModelRepository
from testbed.drawn_pictures import SHAPES, draw

_BATCH_SIZE = 32
_DISTINCT = 400


def main() -> None:
    """Measure, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    place = locate(arguments.model)
    if place.model is None:
        parser.error("--model: give the folder of one model")
    repository = ModelRepository(place.repository)
    version = place.version or max(repository.versions(place.model))
    artifact = repository.open_version(place.model, version)
    with tempfile.TemporaryDirectory() as folder:
        files = _draw(Path(folder, "pictures"), arguments.pictures)
        bare, bulk = [], []
        for number in range(arguments.rounds):
            bare.append(_bare_seconds(artifact, files))
            output = Path(folder, f"output-{number}")
            bulk.append(_bulk_seconds(arguments.model, Path(folder, "pictures"), output))
    rate_bare, rate_bulk = len(files) / min(bare), len(files) / min(bulk)
    print(f"bare pipeline {rate_bare:.0f} pictures/s")
    print(f"convd batch   {rate_bulk:.0f} pictures/s with its start, {rate_bulk / rate_bare:.0%}")


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


def _bulk_seconds(model: Path, pictures: Path, output: Path) -> float:
    words = ["-m", "convd", "batch", str(pictures), "--model", str(model), "--output", str(output)]
    started = time.perf_counter()
    subprocess.run([sys.executable, *words, "--provider", "cpu"], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
