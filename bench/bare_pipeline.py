"""Bulk classification with nothing around it: decode, prepare and run, and forget the answers.

    python -m bench.bare_pipeline FOLDER

Pictures are decoded and prepared in a thread for each core while a plain session runs batches of
32: what a script would do that somebody writes for one day.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime as ort

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.artifact.repository import ModelRepository

MODEL = Path("deploy/demo/digits")
BATCH_SIZE = 32


def main() -> None:
    """Classify the pictures of a folder."""
    artifact = ModelRepository(MODEL.parent).open_version(MODEL.name, 1)
    recipe = artifact.manifest.preprocessing
    session = ort.InferenceSession(artifact.read(MODEL_FILE), providers=["CPUExecutionProvider"])

    def prepare(file: Path) -> ImageArray:
        return prepare_image(decode_image(file.read_bytes()), recipe)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        prepared = pool.map(prepare, sorted(Path(sys.argv[1]).iterdir()))
        while images := list(islice(prepared, BATCH_SIZE)):
            session.run(["probabilities"], {"image": np.stack(images)})


if __name__ == "__main__":
    main()
