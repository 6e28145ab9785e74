"""The four-class network of the walkthrough: trained, and looked at from inside."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from bench.walkthrough import formulas
from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import prepare_image
from convd.models import create_model
from convd.models.architectures.lenet import LeNet5
from convd.models.data.drawn import LABELS, DrawnDataset, load_drawn_splits
from convd.models.records import METRICS_FILE, EpochRecord
from convd.models.settings import TrainingSettings
from convd.models.training import train

EPOCHS = 16
BATCH = 64
SMOOTHING = 0.1
UNSEEN = DrawnDataset(200, 1_000_001)
"""Pictures that neither training nor its measurement has seen."""


class Trained(NamedTuple):
    """A trained LeNet-5.

    Attributes:
        network: The network.
        records: What each epoch measured.
        accuracy: Share of the held-out pictures that it names rightly.
        normalization: What its pixels are normalised with.
    """

    network: LeNet5
    records: list[EpochRecord]
    accuracy: float
    normalization: Normalization

    def inputs(self, images: list[NDArray[np.uint8]]) -> Tensor:
        """Pictures as the network takes them."""
        pixels = np.stack(images).astype(np.float32) / 255
        values = (pixels - self.normalization.mean) / self.normalization.std
        return torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)

    def probabilities(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """What it answers, `[pictures, 4]`."""
        with torch.inference_mode():
            answer: NDArray[np.float32] = self.network(self.inputs(images)).softmax(1).numpy()
        return answer


def train_lenet(pooling: str, folder: Path) -> Trained:
    """Train a LeNet-5 on drawn pictures."""
    settings = TrainingSettings(
        architecture="lenet5",
        options={"pooling": pooling},
        data="drawn:",
        classes=LABELS,
        epochs=EPOCHS,
        batch_size=BATCH,
        label_smoothing=SMOOTHING,
        # The sum of four numbers is four times their mean, and wants smaller steps.
        learning_rate=0.0125 if pooling == "sum" else None,
    )
    result = train(settings, folder, console=Console(quiet=True))
    network = result.network.cpu().eval()
    assert isinstance(network, LeNet5)  # noqa: S101
    description = result.description
    assert description.accuracy is not None  # noqa: S101
    lines = (folder / METRICS_FILE).read_text().splitlines()
    records = [EpochRecord.model_validate_json(line) for line in lines]
    return Trained(network, records, description.accuracy.top1, description.normalization)


def unseen(count: int) -> list[NDArray[np.uint8]]:
    """Unseen pictures as LeNet takes them: uint8 `[32, 32, 3]`."""
    recipe = load_drawn_splits(0).preprocessing(32)
    return [prepare_image(UNSEEN.picture(index), recipe) for index in range(count)]


def moved_by(trained: Trained, pixels: int, count: int = 200) -> float:
    """How much probability moves on average when pictures move to the right."""
    images = unseen(count)
    after = [formulas.shifted(image, pixels) for image in images]
    return formulas.moved(trained.probabilities(images), trained.probabilities(after))


def lowest_loss() -> float:
    """The loss of a network that gives every class exactly its smoothed target."""
    target = np.full(len(LABELS), SMOOTHING / len(LABELS))
    target[0] += 1 - SMOOTHING
    return formulas.cross_entropy(target, 0, SMOOTHING)


class Step(NamedTuple):
    """One training step on one picture.

    Attributes:
        label: What the picture shows.
        before: Probabilities with random weights.
        after: Probabilities after the step.
        error_before: Total error, half the sum of the squared differences.
        error_after: The same after the step.
        gradients: Length of the error's gradient by layer.
        rate: What the gradient is multiplied by.
    """

    label: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    error_before: float
    error_after: float
    gradients: dict[str, float]
    rate: float


def one_step(image: NDArray[np.uint8], label: str, rate: float = 0.5) -> Step:
    """Let a random network see one picture, and change its weights once."""
    torch.manual_seed(0)
    network = create_model("lenet5", num_classes=len(LABELS)).train()
    pixels = torch.from_numpy(image.astype(np.float32) / 255 - 0.5).permute(2, 0, 1)[None]
    target = torch.zeros(len(LABELS))
    target[LABELS.index(label)] = 1
    output = network(pixels)[0].softmax(0)
    error = 0.5 * ((target - output) ** 2).sum()
    error.backward()
    gradients = {
        name: float(
            torch.cat(
                [each.grad.flatten() for each in layer.parameters() if each.grad is not None]
            ).norm()
        )
        for name, layer in network.named_children()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=rate)
        after = network(pixels)[0].softmax(0)
    wanted = target.double().numpy()
    first, second = output.detach().double().numpy(), after.double().numpy()
    return Step(
        label,
        first,
        second,
        formulas.total_error(wanted, first),
        formulas.total_error(wanted, second),
        gradients,
        rate,
    )


def depth(network: nn.Module) -> int:
    """Layers with weights: convolutions and linear layers, those beside each other too."""
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in network.modules())


def sizes() -> list[tuple[int, int, int, int, int, tuple[int, ...]]]:
    """Size, kernel, stride, padding, filters, and the measured shape of the map."""
    cases = itertools.product((32, 28), (3, 5), (1, 2), (0, 1, 2))
    found = []
    for size, kernel, stride, padding in cases:
        layer = nn.Conv2d(3, 6, kernel, stride, padding)
        found.append(
            (
                size,
                kernel,
                stride,
                padding,
                6,
                tuple(layer(torch.zeros(1, 3, size, size)).shape[1:]),
            )
        )
    return found
