"""Chooses the golden cases: real pictures, as files, with the probabilities that they must give."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from convd.artifact.decoding import decode_image
from convd.artifact.golden import GOLDEN_CASES, GOLDEN_DIRECTORY, GoldenCase, GoldenCases
from convd.artifact.preprocessing import prepare_image
from convd.export.evaluation import Run
from convd.export.sample_pictures import SamplePictures
from convd.export.source import TrainedNetwork
from convd.models.data import ImageDataset

MAX_CASES = 10


def write_golden_cases(folder: Path, source: TrainedNetwork, run: Run) -> None:
    """Write golden pictures and their expected probabilities into an artifact's folder.

    The probabilities are computed from the very files that are written.

    Args:
        folder: The artifact.
        source: Whose examples to take.
        run: What gives the expected probabilities.
    """
    (folder / GOLDEN_DIRECTORY).mkdir()
    files: list[str] = []
    prepared = []
    for number, index in enumerate(_chosen(source.examples)):
        image_format = "JPEG" if number % 2 else "PNG"
        data = _encode(source.examples.picture(index), image_format)
        file = GOLDEN_DIRECTORY / f"{number:02d}.{image_format.lower()}"
        (folder / file).write_bytes(data)
        files.append(str(file))
        prepared.append(prepare_image(decode_image(data), source.preprocessing))
    probabilities = run(np.stack(prepared)).probabilities
    cases = GoldenCases(
        cases=tuple(
            GoldenCase(image=file, probabilities=tuple(row.tolist()))
            for file, row in zip(files, probabilities, strict=True)
        )
    )
    (folder / GOLDEN_CASES).write_text(cases.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _chosen(examples: ImageDataset | SamplePictures) -> list[int]:
    """The first picture of each class; where there are fewer classes, others beside them."""
    if isinstance(examples, SamplePictures):
        return list(range(min(MAX_CASES, len(examples))))
    first: dict[int, int] = {}
    for index in range(len(examples)):
        first.setdefault(examples.target(index), index)
        if len(first) == min(MAX_CASES, len(examples.labels)):
            break
    others = (index for index in range(len(examples)) if index not in first.values())
    chosen = list(first.values())
    while len(chosen) < min(MAX_CASES, len(examples)):
        chosen.append(next(others))
    return sorted(chosen)


def _encode(picture: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    # JPEG has no alpha channel and no palette.
    mode = picture.mode if picture.mode in ("L", "RGB") else "RGB"
    picture.convert(mode).save(buffer, image_format)
    return buffer.getvalue()
