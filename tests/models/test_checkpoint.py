import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from convd.artifact.manifest import Accuracy, Normalization
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.models.checkpoint import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    CheckpointDescription,
    is_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from convd.models.errors import InvalidCheckpointError, UnknownArchitectureError

DESCRIPTION = CheckpointDescription(
    architecture="lenet5",
    options={"pooling": "sum"},
    num_classes=2,
    in_channels=1,
    labels=("cat", "dog"),
    preprocessing=Preprocessing(resize=ResizeTo(height=32, width=32), channel_order="L"),
    normalization=Normalization(mean=(0.5,), std=(0.25,)),
    data="folder:pets",
    split_seed=3,
    accuracy=Accuracy(top1=0.75, examples=4, data="four pets"),
    training={"epochs": 2},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "pets", DESCRIPTION.build(), DESCRIPTION)
    return tmp_path / "pets"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    network = DESCRIPTION.build().eval()
    save_checkpoint(tmp_path, network, DESCRIPTION)
    loaded = load_checkpoint(tmp_path)
    assert loaded.description == DESCRIPTION
    assert not loaded.network.training
    x = torch.rand(3, 1, 32, 32)
    assert torch.equal(loaded.network(x), network(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == [DESCRIPTION_FILE, WEIGHTS_FILE]


def test_a_checkpoint_is_told_from_another_folder(saved: Path) -> None:
    assert is_checkpoint(saved)
    assert not is_checkpoint(saved.parent)


def test_a_missing_description(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpointError, match="give the folder that 'convd train' wrote"):
        load_checkpoint(tmp_path)


def test_missing_weights(saved: Path) -> None:
    (saved / WEIGHTS_FILE).unlink()
    with pytest.raises(InvalidCheckpointError, match=f"has no {WEIGHTS_FILE}"):
        load_checkpoint(saved)


def test_damaged_weights(saved: Path) -> None:
    (saved / WEIGHTS_FILE).write_bytes((saved / WEIGHTS_FILE).read_bytes()[:100])
    with pytest.raises(InvalidCheckpointError, match="is damaged"):
        load_checkpoint(saved)


def test_a_damaged_description(saved: Path) -> None:
    (saved / DESCRIPTION_FILE).write_text("{")
    with pytest.raises(InvalidCheckpointError, match="JSON"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("labels", ["cat"], InvalidCheckpointError, "2 classes, but 1 labels"),
        ("colour", "red", InvalidCheckpointError, "colour"),
        ("in_channels", 3, InvalidCheckpointError, "preprocessing gives 1"),
        ("architecture", "lenet6", UnknownArchitectureError, "lenet5"),
    ],
)
def test_a_description_that_cannot_be(
    saved: Path, key: str, value: object, error: type[Exception], message: str
) -> None:
    description = json.loads((saved / DESCRIPTION_FILE).read_text())
    (saved / DESCRIPTION_FILE).write_text(json.dumps({**description, key: value}))
    with pytest.raises(error, match=message):
        load_checkpoint(saved)


def test_weights_of_another_network(saved: Path) -> None:
    three = DESCRIPTION.model_copy(update={"num_classes": 3, "labels": ("cat", "dog", "ant")})
    (saved / DESCRIPTION_FILE).write_text(three.model_dump_json())
    with pytest.raises(InvalidCheckpointError, match="do not fit"):
        load_checkpoint(saved)


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DESCRIPTION.num_classes = 3
