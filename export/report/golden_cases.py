"""Chooses the golden cases: real pictures, as files, with the probabilities that they must give."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convd.artifact.decoding import decode_image
from convd.artifact.golden import GOLDEN_CASES, GOLDEN_DIRECTORY, GoldenCase, GoldenCases
from convd.artifact.preprocessing import Preprocessing, prepare_image
from convd.export.encoding import encode
from convd.export.proof.recipe import reference_pixels
from convd.export.proof.reference import Reference, as_rows
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import Pictures

MIN_CASES = 10
MAX_CASES = 100
"""Networks of more classes than this have no golden case for some."""

_MAX_PNG_PIXELS = 512 * 512


def choose_golden(predicted: NDArray[np.bool_] | None, pictures: int) -> list[int]:
    """Choose pictures so that every predicted label is among their answers.

    Args:
        predicted: Which labels are predicted for each picture, bool `[pictures, labels]`; None
            where that is not known.
        pictures: Number of pictures.

    Returns:
        Indices of 10 pictures, of more where more labels are predicted, and of fewer where there
        are fewer pictures.
    """
    chosen: list[int] = []
    if predicted is not None:
        found, first = np.unique(predicted, axis=0, return_index=True)
        # First a picture for each label, then one for each combination of labels.
        for label in np.flatnonzero(found.any(axis=0))[:MAX_CASES]:
            index = int(np.flatnonzero(predicted[:, label])[0])
            chosen += [index] if index not in chosen else []
        chosen += [int(index) for index in first if index not in chosen][
            : max(0, MIN_CASES - len(chosen))
        ]
    others = iter(index for index in range(pictures) if index not in chosen)
    while len(chosen) < min(MIN_CASES, pictures):
        chosen.append(next(others))
    return sorted(chosen)


class GoldenPictures:
    """Pictures that were written into an artifact as files.

    Args:
        folder: The artifact.
        pictures: Where they come from.
        indices: Which of them.
        preprocessing: From a decoded picture to the graph's input.
    """

    def __init__(
        self, folder: Path, pictures: Pictures, indices: list[int], preprocessing: Preprocessing
    ) -> None:
        (folder / GOLDEN_DIRECTORY).mkdir()
        self._folder = folder
        self._files: list[str] = []
        self.decoded = []
        for number, index in enumerate(indices):
            picture = pictures.picture(index)
            large = picture.width * picture.height > _MAX_PNG_PIXELS
            image_format = "JPEG" if number % 2 or large else "PNG"
            data = encode(picture, image_format)
            file = GOLDEN_DIRECTORY / f"{number:02d}.{image_format.lower()}"
            (folder / file).write_bytes(data)
            self._files.append(str(file))
            self.decoded.append(decode_image(data))
        #: uint8 `[pictures, height, width, channels]`, as the server prepares them.
        self.images = np.stack([prepare_image(each, preprocessing) for each in self.decoded])

    def outputs_of(self, reference: Reference, source: TrainedNetwork) -> NDArray[np.float32]:
        """What the user's network answers to them, float32 `[pictures, outputs]`."""
        pixels = [reference_pixels(each, source.preprocessing) for each in self.decoded]
        return as_rows(reference.outputs(np.stack(pixels)))

    def write_cases(
        self, probabilities: NDArray[np.float32], features: NDArray[np.float32] | None = None
    ) -> None:
        """Write what they must give.

        Args:
            probabilities: float32 `[pictures, labels]`.
            features: float32 `[pictures, length]`, of which the first few are kept; None for none.
        """
        kept = [] if features is None else features[:MIN_CASES].tolist()
        cases = GoldenCases(
            cases=tuple(
                GoldenCase(
                    image=file,
                    probabilities=tuple(row.tolist()),
                    features=tuple(kept[number]) if number < len(kept) else None,
                )
                for number, (file, row) in enumerate(zip(self._files, probabilities, strict=True))
            )
        )
        text = cases.model_dump_json(indent=2) + "\n"
        (self._folder / GOLDEN_CASES).write_text(text, encoding="utf-8")
