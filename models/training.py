"""Training: from settings to a checkpoint."""

import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn

from artifact.manifest import Accuracy, Normalization
from models.augmentation import Augmentation
from models.checkpoint import CheckpointDescription, is_checkpoint, save_checkpoint
from models.data import load_dataset
from models.data.prepared import PreparedDataset
from models.errors import TrainingError
from models.evaluation import predict_prepared
from models.normalization import NormalizeImages
from models.optimization import Optimization, derived_seed
from models.progress import EpochSummary, TrainingProgress
from models.registry import create_model, find_architecture
from models.settings import TrainingSettings

_SECONDS_BETWEEN_UPDATES = 0.1


class TrainingResult(NamedTuple):
    """What a finished run leaves.

    Attributes:
        network: The trained network in eval mode.
        description: Its description, as it stands in the checkpoint.
        accuracy: How good it is on the held-out pictures.
    """

    network: nn.Module
    description: CheckpointDescription
    accuracy: Accuracy


def train(
    settings: TrainingSettings, output: Path, *, console: Console, overwrite: bool = False
) -> TrainingResult:
    """Train a network and write a checkpoint.

    Args:
        settings: What to train, on what, and how.
        output: The checkpoint's folder.
        console: Where progress is shown.
        overwrite: Whether a checkpoint that is there already may be replaced.

    Raises:
        ModelsError: The settings do not fit together, the data cannot be used, or training fails.
    """
    if is_checkpoint(output) and not overwrite:
        raise TrainingError(
            f"{output} holds a checkpoint already: choose another folder, or replace it with "
            "--overwrite"
        )
    architecture = find_architecture(settings.architecture)
    input_size = settings.input_size or architecture.input_size
    architecture.check_input_size(input_size)
    data = load_dataset(settings.data, seed=settings.seed, classes=settings.classes)
    preprocessing = data.preprocessing(input_size, settings.channels)
    train_pictures = PreparedDataset(data.train, preprocessing)
    held_out = PreparedDataset(data.held_out, preprocessing)
    normalization = channel_statistics(train_pictures)
    learning_rate = settings.learning_rate or architecture.learning_rate

    torch.manual_seed(derived_seed(settings.seed, "weights"))
    network = create_model(
        architecture.name,
        num_classes=len(data.labels),
        in_channels=preprocessing.channels,
        **settings.options,
    )
    normalize = NormalizeImages(normalization)
    steps_per_epoch = math.ceil(len(train_pictures) / settings.batch_size)
    optimization = Optimization(
        network,
        normalize,
        data.augmentation if settings.augment else Augmentation(),
        settings,
        learning_rate=learning_rate,
        steps_per_epoch=steps_per_epoch,
    )
    top1 = 0.0
    with TrainingProgress(settings.epochs, settings.epochs * steps_per_epoch, console) as progress:
        for epoch in range(settings.epochs):
            began = time.monotonic()
            loss, accuracy, rate = _train_epoch(
                epoch, train_pictures, optimization, settings, progress
            )
            top1 = predict_prepared(network, held_out, normalize, settings.batch_size).top1
            progress.epoch(
                EpochSummary(
                    epoch=epoch + 1,
                    train_loss=loss,
                    train_accuracy=accuracy,
                    watched_accuracy=top1,
                    learning_rate=optimization.learning_rate((epoch + 1) * steps_per_epoch - 1),
                    images_per_second=rate,
                    seconds=time.monotonic() - began,
                )
            )
    measured = Accuracy(top1=top1, examples=len(held_out), data=data.held_out_name)
    description = CheckpointDescription(
        architecture=architecture.name,
        options=settings.options,
        num_classes=len(data.labels),
        in_channels=preprocessing.channels,
        labels=data.labels,
        preprocessing=preprocessing,
        normalization=normalization,
        data=settings.data,
        classes=settings.classes,
        split_seed=settings.seed,
        accuracy=measured,
        training={
            "data": settings.data,
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": learning_rate,
            "loss": settings.loss,
            "label_smoothing": settings.effective_label_smoothing,
            "seed": settings.seed,
        },
    )
    save_checkpoint(output, network, description)
    return TrainingResult(network.eval(), description, measured)


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
    # Pictures of one colour have no spread; one grey level keeps the division finite.
    return Normalization(
        mean=tuple(round(value, 4) for value in mean.tolist()),
        std=tuple(round(max(value, 1 / 255), 4) for value in std.tolist()),
    )


def _train_epoch(
    epoch: int,
    dataset: PreparedDataset,
    optimization: Optimization,
    settings: TrainingSettings,
    progress: TrainingProgress,
) -> tuple[float, float, float]:
    """Train on every picture once; gives mean loss, accuracy and pictures per second."""
    optimization.network.train()
    order = epoch_order(len(dataset), settings, epoch)
    loss_sum = torch.zeros(())
    correct = torch.zeros((), dtype=torch.int64)
    seen = 0
    began = shown = time.monotonic()
    for number, batch in enumerate(dataset.batches(order), start=epoch * len(order)):
        result = optimization.step(number, batch)
        loss_sum = loss_sum + result.loss * len(batch.targets)
        correct = correct + result.correct
        seen += len(batch.targets)
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_UPDATES or seen == len(dataset):
            shown = now
            loss = loss_sum.item() / seen
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch + 1}: train with a smaller "
                    "--learning-rate"
                )
            progress.step(
                epoch=epoch + 1,
                step=number + 1,
                loss=loss,
                accuracy=correct.item() / seen,
                images_per_second=seen / max(now - began, 1e-9),
            )
    elapsed = max(time.monotonic() - began, 1e-9)
    return loss_sum.item() / seen, correct.item() / seen, seen / elapsed


def epoch_order(count: int, settings: TrainingSettings, epoch: int) -> tuple[Tensor, ...]:
    """The pictures of each batch of an epoch, in batches of nearly equal size.

    A small rest would make a step of its own with as much say as a whole batch.
    """
    seed = derived_seed(settings.seed, "order", epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order.tensor_split(math.ceil(count / settings.batch_size))
