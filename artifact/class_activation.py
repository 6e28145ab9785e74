"""What class activation mapping needs besides the feature maps: the weights of the last layer.

Zhou, Khosla, Lapedriza, Oliva and Torralba, "Learning Deep Features for Discriminative
Localization", CVPR 2016: where a network ends in the means of its feature maps and one linear
layer, the evidence for a class at each place is the sum of the maps there, each times the weight
that the class gives it. The mean of that map, and the bias, are the class's logit.
"""

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convd.artifact.bundle import Artifact
from convd.artifact.errors import InvalidArtifactError

CLASS_WEIGHTS_FILE = PurePosixPath("class_weights.f32")
"""float32 `[labels, maps]`, row-major, little-endian."""

LEAST_CELLS = 7
"""Rows and columns of the coarsest maps that show a place: those of networks for ImageNet at
224 x 224. In a smaller picture each cell sees nearly everything, so where it lies says little; with
2 x 2 cells it says nothing (docs/pointing.md)."""


def shows_places(cells: tuple[int, ...]) -> bool:
    """Whether maps of so many rows and columns are fine enough to show where evidence lies."""
    return min(cells) >= LEAST_CELLS


def write_class_weights(folder: Path, weights: NDArray[np.float32]) -> None:
    """Write weights, `[labels, maps]`, into an artifact."""
    (folder / CLASS_WEIGHTS_FILE).write_bytes(weights.astype("<f4").tobytes())


def read_class_weights(artifact: Artifact) -> NDArray[np.float32] | None:
    """Read an artifact's weights, float32 `[labels, maps]`; None where it has no maps.

    Raises:
        InvalidArtifactError: The file is missing, altered or of another size.
    """
    described = artifact.manifest.features
    if described is None or described.map_shape is None:
        return None
    data = artifact.read(CLASS_WEIGHTS_FILE)
    shape = (len(artifact.manifest.labels), described.map_shape[0])
    if len(data) != 4 * shape[0] * shape[1]:
        raise InvalidArtifactError(
            f"{CLASS_WEIGHTS_FILE} has {len(data)} bytes, not those of {shape[0]} labels and "
            f"{shape[1]} maps: export the model again"
        )
    return np.frombuffer(data, "<f4").reshape(shape)


def class_activation_map(
    maps: NDArray[np.float32], class_weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Where the evidence for a class is.

    Args:
        maps: The last feature maps of one picture, float32 `[maps, height, width]`.
        class_weights: The weights that the class gives to them, float32 `[maps]`.

    Returns:
        float32 `[height, width]`.
    """
    evidence: NDArray[np.float32] = np.tensordot(class_weights, maps, axes=1)
    return evidence
