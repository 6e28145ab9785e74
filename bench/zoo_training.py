"""The zoo: one network of each paper, trained on `drawn:` and published once.

`make zoo` and `make pointing` measure the same networks. Each is trained and exported by the
commands that a user would type; what an interrupted run has finished is not done again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.command_line import convd
from convd.artifact.repository import ModelRepository
from convd.models.checkpoint import is_checkpoint
from convd.models.registry import find_architecture
from convd.models.resume import RESUME_FILE

RUN = Path("runs/zoo")
REPOSITORY = RUN / "repository"
DATA = "drawn:"
INPUT_SIZE = 64


@dataclass(frozen=True)
class Recipe:
    """What differs from the defaults of `convd train`."""

    epochs: int


RECIPES = {
    "lenet5": Recipe(30),
    "alexnet": Recipe(20),
    "zfnet": Recipe(16),
    "googlenet": Recipe(30),
    "vgg11_bn": Recipe(8),
    "resnet18": Recipe(8),
    "densenet121": Recipe(8),
}
"""One network of each paper, and how it is trained."""


def train_and_publish(names: Iterable[str] = RECIPES) -> None:
    """Train and export those networks that the repository does not have yet."""
    RUN.mkdir(parents=True, exist_ok=True)
    for name in names:
        _train(name, RECIPES[name])
        if name not in ModelRepository(REPOSITORY).models():
            convd("export", RUN / name, "--name", name, "--repository", REPOSITORY, "--features")


def training_seconds(name: str) -> float:
    """How long all epochs of a network took, whatever interrupted them."""
    lines = (RUN / name / "metrics.jsonl").read_text().splitlines()
    return float(sum(json.loads(line)["seconds"] for line in lines))


def _train(name: str, recipe: Recipe) -> None:
    interrupted = (RUN / name / RESUME_FILE).exists()
    if is_checkpoint(RUN / name) and not interrupted:
        return
    size = min(INPUT_SIZE, find_architecture(name).maximum_input_size or INPUT_SIZE)
    convd(
        *("train", name, "--data", DATA, "--input-size", size, "--epochs", recipe.epochs),
        *("--output", RUN / name, *(("--resume",) if interrupted else ())),
    )
