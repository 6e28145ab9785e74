"""The defaults learn from a small folder; `make small-folder` shows it on more pictures."""

import math
from pathlib import Path

import pytest
from rich.console import Console

from convd.models.records import METRICS_FILE, EpochRecord, rises_above_chance
from convd.models.settings import TrainingSettings
from convd.models.training import train
from testbed.drawn_pictures import SHAPES, draw_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of thirty pictures."""
    root = tmp_path_factory.mktemp("drawn") / "photos"
    draw_folder(root, pictures=30)
    return root


def _records(photos: Path, output: Path, **settings: object) -> list[EpochRecord]:
    values = {"architecture": "resnet18", "data": f"folder:{photos}", "input_size": 32, **settings}
    train(TrainingSettings.model_validate(values), output, console=Console(quiet=True))
    lines = (output / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return [EpochRecord.model_validate_json(line) for line in lines]


def test_the_defaults_learn_from_a_small_folder(photos: Path, tmp_path: Path) -> None:
    records = _records(photos, tmp_path, epochs=5)
    chance = math.log(len(SHAPES))
    assert not any(rises_above_chance(records[:end], chance) for end in range(1, 6))
    assert records[-1].train_loss < 0.75 * chance
    assert sum(each.watched_accuracy for each in records[-3:]) / 3 > 1.4 / len(SHAPES)


def test_what_the_defaults_were_once_diverges(photos: Path, tmp_path: Path) -> None:
    old = {"batch_size": 64, "passes_per_epoch": 1, "learning_rate": 0.05}
    records = _records(photos, tmp_path, epochs=5, **old)
    chance = math.log(len(SHAPES))
    assert any(rises_above_chance(records[:end], chance) for end in range(1, 6))
    assert records[-1].train_loss > 0.9 * chance
