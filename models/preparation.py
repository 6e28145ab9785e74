"""Prepares everything that a training run needs."""

import math
from dataclasses import dataclass

import torch

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.models.data import DatasetSplits, load_dataset
from convd.models.data.dataset import HELD_OUT_SHARE, split
from convd.models.data.files import Report
from convd.models.data.prepared import PreparedDataset
from convd.models.initialization import InitialNetwork, initial_network
from convd.models.registry import Architecture, find_architecture
from convd.models.schedule import peak_learning_rate, suitable_batch_size, suitable_passes
from convd.models.settings import TrainingSettings

VALIDATION_SHARE = HELD_OUT_SHARE / 2


@dataclass(frozen=True)
class PreparedRun:
    """A training run before its first step.

    Attributes:
        architecture: The architecture to train.
        initial: The network before the first step.
        data: The data set, divided.
        train: The prepared training pictures.
        held_out: The prepared pictures that training never sees.
        validation: Prepared pictures that decide when to stop; None without `patience`.
        preprocessing: The recipe of all prepared pictures.
        normalization: Their normalisation.
        batch_size: Pictures per step.
        passes_per_epoch: How often an epoch sees each training picture.
        learning_rate: Peak learning rate.
    """

    architecture: Architecture
    initial: InitialNetwork
    data: DatasetSplits
    train: PreparedDataset
    held_out: PreparedDataset
    validation: PreparedDataset | None
    preprocessing: Preprocessing
    normalization: Normalization
    batch_size: int
    passes_per_epoch: int
    learning_rate: float

    @property
    def pictures_per_epoch(self) -> int:
        """How many pictures an epoch sees, each as often as it is passed over."""
        return len(self.train) * self.passes_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """How many optimisation steps an epoch takes."""
        return math.ceil(len(self.train) / self.batch_size) * self.passes_per_epoch


def prepare_run(settings: TrainingSettings, report: Report) -> PreparedRun:
    """Load the data, prepare every picture, build the network.

    Args:
        settings: What to train, on what, and how.
        report: Called with a text at the start of each slow step.

    Raises:
        ModelsError: The settings do not fit together, or the data or a checkpoint cannot be used.
    """
    architecture = find_architecture(settings.architecture)
    input_size = settings.input_size or architecture.input_size
    architecture.check_input_size(input_size)
    report("reading the data set")
    data = load_dataset(
        settings.data,
        seed=settings.seed,
        classes=settings.classes,
        strict=settings.strict_data,
        report=report,
    )
    preprocessing = data.preprocessing(input_size, settings.channels)
    report("building the network")
    initial = initial_network(
        settings, architecture, num_classes=len(data.labels), in_channels=preprocessing.channels
    )
    report("preparing pictures")
    train, validation = data.train, None
    if settings.patience is not None:
        train, aside = split(data.train, share=VALIDATION_SHARE, seed=settings.seed)
        validation = PreparedDataset(aside, preprocessing)
    prepared = PreparedDataset(train, preprocessing)
    batch_size = settings.batch_size or suitable_batch_size(len(prepared))
    learning_rate = settings.learning_rate or peak_learning_rate(
        architecture.learning_rate, batch_size
    )
    return PreparedRun(
        architecture=architecture,
        initial=initial,
        data=data,
        train=prepared,
        held_out=PreparedDataset(data.held_out, preprocessing),
        validation=validation,
        preprocessing=preprocessing,
        normalization=initial.normalization or channel_statistics(prepared),
        batch_size=batch_size,
        passes_per_epoch=settings.passes_per_epoch or suitable_passes(len(prepared), batch_size),
        learning_rate=learning_rate,
    )


def channel_statistics(dataset: PreparedDataset) -> Normalization:
    """Mean and standard deviation of every channel, of pixels scaled to 0..1, to four digits."""
    total = torch.zeros(1, dtype=torch.float64)
    squares = torch.zeros(1, dtype=torch.float64)
    pixels = 0
    for batch in dataset.in_order(256):
        scaled = batch.images.flatten(0, 2).to(torch.float64) / 255  # pixels x channels
        total = total + scaled.sum(dim=0)
        squares = squares + scaled.square().sum(dim=0)
        pixels += len(scaled)
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
    # Pictures of a single colour have no spread; one grey level keeps the division finite.
    return Normalization(
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(max(value, 1 / 255), 4) for value in std.tolist()),
    )
