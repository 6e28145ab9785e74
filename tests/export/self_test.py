"""Runs an artifact's golden pictures in a process of its own: `self_test.py ARTIFACT ANSWERS`."""

import sys
from pathlib import Path, PurePosixPath

import numpy as np

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.runtime.cpu import CPU
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session


def golden_images(artifact: Artifact) -> ImageArray:
    """The golden pictures, prepared: uint8 `[pictures, height, width, channels]`."""
    files = [artifact.read(PurePosixPath(case.image)) for case in artifact.golden_cases().cases]
    recipe = artifact.manifest.preprocessing
    return np.stack([prepare_image(decode_image(file), recipe) for file in files])


def main() -> None:
    artifact = Artifact.open(Path(sys.argv[1]))
    session = Session(artifact.read(MODEL_FILE), CPU)
    run_self_test(artifact, session)
    np.save(sys.argv[2], session.run(golden_images(artifact)).probabilities)


if __name__ == "__main__":
    main()
