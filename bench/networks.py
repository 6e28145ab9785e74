"""The networks that are measured: their size matters, not what they have learned."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import (
    CenterCrop,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
)
from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import from_classes
from convd.models import create_model

_EXAMPLES = 16
_SEED = 0


class NoisePictures:
    """Coloured noise of many scales, so that no two pictures give the same answer.

    Args:
        classes: Number of classes.
        channels: 1 for grayscale, 3 for RGB.
        size: Height and width, in pixels.
    """

    def __init__(self, classes: int, channels: int, size: int) -> None:
        self.labels = tuple(f"class {index}" for index in range(classes))
        self._mode = "L" if channels == 1 else "RGB"
        self._size = size

    def __len__(self) -> int:
        return _EXAMPLES

    def picture(self, index: int) -> Image.Image:
        """One picture."""
        cells = 2 + 3 * index
        noise = np.random.default_rng(index).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((self._size, self._size), Image.Resampling.BICUBIC)
        return picture.convert(self._mode)

    def target(self, index: int) -> int:
        """A class for it, without meaning."""
        return index % len(self.labels)


def publish_network(repository: Path, architecture: str) -> None:
    """Publish an architecture with random weights under its own name, unless it is there already.

    Args:
        repository: Where to publish.
        architecture: `lenet5`, or the name of a network for ImageNet.
    """
    if (repository / architecture / "1").is_dir():
        return
    torch.manual_seed(_SEED)
    if architecture == "lenet5":
        classes, channels, size = 10, 1, 32
        recipe = Preprocessing(resize=ResizeTo(height=size, width=size), channel_order="L")
        normalization = Normalization(mean=(0.3,), std=(0.35,))
    else:
        classes, channels, size = 1000, 3, 224
        recipe = Preprocessing(
            resize=ResizeShorterSide(size=232), center_crop=CenterCrop(height=size, width=size)
        )
        normalization = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    network = create_model(architecture, num_classes=classes, in_channels=channels).eval()
    pictures = NoisePictures(classes, channels, size)
    source = TrainedNetwork(
        network=network,
        labels=pictures.labels,
        preprocessing=recipe,
        normalization=normalization,
        provenance=Provenance(source=f"random weights, seed {_SEED}", architecture=architecture),
        examples=from_classes(pictures, pictures.labels, "noise"),
        is_untrained=True,
    )
    publish(source, ModelRepository(repository), architecture)


@contextlib.contextmanager
def repository_of_one(repository: Path, architecture: str) -> Iterator[Path]:
    """A repository with nothing but one network, published in `repository` where it is missing."""
    publish_network(repository, architecture)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / architecture).symlink_to((repository / architecture).absolute())
        yield Path(folder)
