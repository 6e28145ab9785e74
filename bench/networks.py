"""The networks that are measured: their size matters, not what they have learned."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from convd.artifact.manifest import Normalization, Provenance
from convd.artifact.preprocessing import (
    CenterCrop,
    ImageArray,
    Preprocessing,
    ResizeShorterSide,
    ResizeTo,
    prepare_image,
)
from convd.artifact.repository import ModelRepository
from convd.export.options import ExportOptions, ExportPrecision
from convd.export.proof.reference import Reference, network_input
from convd.export.publication import publish
from convd.export.source import TrainedNetwork
from convd.export.sources.labelled_pictures import from_classes
from convd.models import create_model

_EXAMPLES = 16
_SEED = 0
_LARGEST_LOGIT = 5.0


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


def settle(source: TrainedNetwork, pictures: Sequence[ImageArray]) -> None:
    """Give random weights the variances of trained ones, so that answers differ by picture.

    Args:
        source: The network, which is changed.
        pictures: Prepared pictures, uint8 `[height, width, channels]`.
    """
    network = source.network
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.train()
    # Kinds of pictures that were not among them would be amplified beyond float32's digits.
    constant = [np.full(pictures[0].shape, level, np.uint8) for level in (0, 64, 128, 192, 255)]
    noise = np.random.default_rng(_SEED).integers(
        0, 256, (len(pictures), *pictures[0].shape), dtype=np.uint8
    )
    mixed = np.concatenate([np.stack(pictures), noise, np.stack(constant)])
    with torch.no_grad():
        network(torch.from_numpy(network_input(mixed, source.normalization)))
    logits = Reference(network.eval(), source.normalization).outputs(mixed)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(_LARGEST_LOGIT / float(np.abs(logits).max()))


def publish_network(
    repository: Path, architecture: str, precision: ExportPrecision = "float32"
) -> str:
    """Publish an architecture with random weights, unless it is there already.

    Args:
        repository: Where to publish.
        architecture: `lenet5`, or the name of a network for ImageNet.
        precision: Precision of the published weights.

    Returns:
        The model's name: the architecture, with its precision unless that is float32.
    """
    name = architecture if precision == "float32" else f"{architecture}-{precision}"
    if (repository / name / "1").is_dir():
        return name
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
    settle(source, [prepare_image(pictures.picture(index), recipe) for index in range(_EXAMPLES)])
    publish(source, ModelRepository(repository), name, ExportOptions(precision=precision))
    return name


@contextlib.contextmanager
def repository_of_one(
    repository: Path, architecture: str, precision: ExportPrecision = "float32"
) -> Iterator[Path]:
    """A repository with nothing but one network, published in `repository` where it is missing."""
    name = publish_network(repository, architecture, precision)
    # Beside it, so that its files need not be copied; a link to the folder would not be served.
    with tempfile.TemporaryDirectory(dir=repository.parent) as folder:
        shutil.copytree(repository / name, Path(folder) / name, copy_function=os.link)
        yield Path(folder).absolute()
