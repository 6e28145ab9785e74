"""Prepares everything that a training run needs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.models.checkpoint import is_checkpoint, read_description
from convd.models.data import DatasetSplits, load_dataset
from convd.models.data.dataset import HELD_OUT_SHARE, split
from convd.models.data.files import Report
from convd.models.data.prepared import PreparedDataset
from convd.models.errors import TrainingError
from convd.models.foreign import head_keys, transfer
from convd.models.optimization import derived_seed
from convd.models.registry import Architecture, Options, create_model, find_architecture
from convd.models.settings import TrainingSettings
from convd.models.weights import load_weights

VALIDATION_SHARE = HELD_OUT_SHARE / 2
FINE_TUNING_FACTOR = 0.1
"""Factor of the learning rate for weights that are already trained."""

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class PreparedRun:
    """A training run before its first step.

    Attributes:
        architecture: The architecture to train.
        options: Its options.
        data: The data set, divided.
        train: The prepared training pictures.
        held_out: The prepared pictures that training never sees.
        validation: Prepared pictures that decide when to stop; None without `patience`.
        preprocessing: The recipe of all prepared pictures.
        normalization: Their normalisation.
        network: The network before the first step, on the CPU.
        learning_rate: Peak learning rate.
    """

    architecture: Architecture
    options: Options
    data: DatasetSplits
    train: PreparedDataset
    held_out: PreparedDataset
    validation: PreparedDataset | None
    preprocessing: Preprocessing
    normalization: Normalization
    network: nn.Module
    learning_rate: float


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
    network, options, normalization = _initial_network(
        settings, architecture, num_classes=len(data.labels), in_channels=preprocessing.channels
    )
    report("preparing pictures")
    train, validation = data.train, None
    if settings.patience is not None:
        train, aside = split(data.train, share=VALIDATION_SHARE, seed=settings.seed)
        validation = PreparedDataset(aside, preprocessing)
    prepared = PreparedDataset(train, preprocessing)
    learning_rate = architecture.learning_rate
    if settings.init is not None:
        learning_rate *= FINE_TUNING_FACTOR
    return PreparedRun(
        architecture=architecture,
        options=options,
        data=data,
        train=prepared,
        held_out=PreparedDataset(data.held_out, preprocessing),
        validation=validation,
        preprocessing=preprocessing,
        normalization=normalization or channel_statistics(prepared),
        network=network,
        learning_rate=settings.learning_rate or learning_rate,
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


def _initial_network(
    settings: TrainingSettings, architecture: Architecture, *, num_classes: int, in_channels: int
) -> tuple[nn.Module, Options, Normalization | None]:
    """The network before the first step, its options, and the normalisation of its weights."""
    options, normalization, weights = dict(settings.options), None, None
    if settings.init is not None:
        path = Path(settings.init).expanduser()
        weights = architecture.rename_weights(load_weights(path).tensors)
        found = architecture.options_of_weights(weights)
        if is_checkpoint(path):
            description = read_description(path)
            if description.architecture != architecture.name:
                raise TrainingError(
                    f"{path} is a {description.architecture}, not a {architecture.name}: run "
                    f"'convd train {description.architecture}'"
                )
            found = {**description.options, **found}
            normalization = description.normalization
        elif in_channels == 3:
            normalization = IMAGENET
        options = {**found, **options}
    torch.manual_seed(derived_seed(settings.seed, "weights"))
    network = create_model(
        architecture.name, num_classes=num_classes, in_channels=in_channels, **options
    )
    if weights is not None:
        transfer(network, weights, architecture)
    if settings.freeze_backbone:
        head = head_keys(architecture)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in head)
    return network, options, normalization
