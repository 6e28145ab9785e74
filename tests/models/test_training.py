import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from convd.models.checkpoint import load_checkpoint
from convd.models.errors import TrainingError
from convd.models.interruption import Interruption
from convd.models.records import METRICS_FILE, EpochRecord
from convd.models.resume import RESUME_FILE
from convd.models.settings import TrainingSettings
from convd.models.training import TrainingResult, train
from tests.models.support import write_folder

# Dropout, momentum, batch statistics and augmentation all have a state that must be taken up again.
LENET = TrainingSettings(
    architecture="lenet5",
    data="digits",
    classes=("0", "1", "2"),
    epochs=2,
    batch_size=64,
    passes_per_epoch=1,
)


class _AfterSteps(Interruption):
    """Asks to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def requested(self) -> bool:
        self._left -= 1
        if self._left == 0:
            self.signal = signal.SIGINT
        return self.signal is not None


def _train(
    settings: TrainingSettings, output: Path, *, stop_after: int | None = None, resume: bool = False
) -> TrainingResult:
    interruption = None if stop_after is None else _AfterSteps(stop_after)
    console = Console(quiet=True)
    return train(settings, output, console=console, resume=resume, interruption=interruption)


def _weights(output: Path) -> bytes:
    return (output / "model.safetensors").read_bytes()


def _metrics(output: Path) -> list[EpochRecord]:
    lines = (output / METRICS_FILE).read_text().splitlines()
    timeless = {"seconds": 0.0, "images_per_second": 0.0}
    return [EpochRecord.model_validate({**json.loads(line), **timeless}) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    assert _train(LENET, output).interrupted_by is None
    return output


# An epoch has 7 steps: within the first, at its end, at the beginning of the second, at the end.
@pytest.mark.parametrize("steps", [1, 3, 7, 8, 14])
def test_an_interrupted_run_ends_with_the_same_weights(
    uninterrupted: Path, tmp_path: Path, steps: int
) -> None:
    interrupted = _train(LENET, tmp_path, stop_after=steps)
    assert interrupted.interrupted_by is signal.SIGINT
    assert _weights(tmp_path) != _weights(uninterrupted) or steps == 14
    description = load_checkpoint(tmp_path).description
    assert description.accuracy is None
    assert description.training["finished"] is False
    assert _train(LENET, tmp_path, resume=True).interrupted_by is None
    assert _weights(tmp_path) == _weights(uninterrupted)
    assert _metrics(tmp_path) == _metrics(uninterrupted)
    assert not (tmp_path / RESUME_FILE).exists()


def test_a_run_may_be_interrupted_again_and_again(uninterrupted: Path, tmp_path: Path) -> None:
    _train(LENET, tmp_path, stop_after=4)
    for _ in range(3):
        assert _train(LENET, tmp_path, stop_after=2, resume=True).interrupted_by is signal.SIGINT
    _train(LENET, tmp_path, resume=True)
    assert _weights(tmp_path) == _weights(uninterrupted)


@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "googlenet"],  # batch statistics; dropout and auxiliary classifiers
)
def test_every_kind_of_state_is_taken_up_again(tmp_path: Path, architecture: str) -> None:
    settings = TrainingSettings(
        architecture=architecture,
        data="digits",
        classes=("0", "1"),
        input_size=32,
        epochs=1,
        batch_size=100,
        passes_per_epoch=1,
    )
    _train(settings, tmp_path / "whole")
    _train(settings, tmp_path / "parts", stop_after=1)
    _train(settings, tmp_path / "parts", resume=True)
    assert _weights(tmp_path / "parts") == _weights(tmp_path / "whole")


def test_a_killed_run_goes_on_from_what_it_saved(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convd.models.training_loop.SECONDS_BETWEEN_SAVES", 0.0)

    class Killed(BaseException):
        pass

    class Kill(_AfterSteps):
        def requested(self) -> bool:
            if super().requested():
                raise Killed
            return False

    with pytest.raises(Killed):
        train(LENET, tmp_path, console=Console(quiet=True), interruption=Kill(10))
    assert (tmp_path / RESUME_FILE).exists()
    with pytest.raises(TrainingError, match="continue it with --resume"):
        _train(LENET, tmp_path)
    _train(LENET, tmp_path, resume=True)
    assert _weights(tmp_path) == _weights(uninterrupted)


def test_a_run_that_saved_nothing_is_resumed_from_its_beginning(
    uninterrupted: Path, tmp_path: Path
) -> None:
    _train(LENET, tmp_path / "new", resume=True)
    assert _weights(tmp_path / "new") == _weights(uninterrupted)


def test_a_run_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    _train(LENET, tmp_path, stop_after=1)
    other = LENET.model_copy(update={"learning_rate": 0.3})
    with pytest.raises(TrainingError, match=r"started with --learning-rate None, not 0\.3"):
        _train(other, tmp_path, resume=True)
    (tmp_path / RESUME_FILE).write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="is damaged"):
        _train(LENET, tmp_path, resume=True)


def test_a_finished_run_is_not_resumed(uninterrupted: Path) -> None:
    with pytest.raises(TrainingError, match="is finished"):
        _train(LENET, uninterrupted, resume=True)


def test_a_run_leaves_metrics_and_plots(uninterrupted: Path) -> None:
    records = _metrics(uninterrupted)
    assert [record.epoch for record in records] == [1, 2]
    assert records[1].train_loss < records[0].train_loss
    assert all(0 <= record.watched_accuracy <= 1 for record in records)
    accuracy = load_checkpoint(uninterrupted).description.accuracy
    assert accuracy is not None
    assert records[-1].watched_accuracy == accuracy.top1
    for name in ("learning-curve.png", "confusion-matrix.png"):
        with Image.open(uninterrupted / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_training_stops_early_and_keeps_the_best_weights(tmp_path: Path) -> None:
    settings = LENET.model_copy(update={"epochs": 30, "patience": 2})
    result = _train(settings, tmp_path)
    records = _metrics(tmp_path)
    assert len(records) < 30
    assert {record.watched for record in records} == {"validation"}
    accuracies = [record.watched_accuracy for record in records]
    best = accuracies.index(max(accuracies))
    assert len(records) == best + 1 + 2
    assert result.description.training["best_epoch"] == best + 1
    assert result.description.training["pictures"] == 386  # a tenth of 430 is set aside


def test_ctrl_c_keeps_the_best_weights_so_far(tmp_path: Path) -> None:
    settings = LENET.model_copy(update={"epochs": 30, "patience": 20})
    result = _train(settings, tmp_path, stop_after=60)
    assert result.interrupted_by is signal.SIGINT
    best = result.description.training["best_epoch"]
    assert isinstance(best, int)
    accuracies = [record.watched_accuracy for record in _metrics(tmp_path)]
    assert best == accuracies.index(max(accuracies)) + 1
    # A run of the same schedule that is stopped where the best epoch ends has the same weights.
    _train(settings, tmp_path / "short", stop_after=7 * best + 1)
    assert _weights(tmp_path) == _weights(tmp_path / "short")


def test_patience_survives_an_interruption(tmp_path: Path) -> None:
    settings = LENET.model_copy(update={"epochs": 30, "patience": 2})
    _train(settings, tmp_path / "whole")
    _train(settings, tmp_path / "parts", stop_after=20)
    _train(settings, tmp_path / "parts", resume=True)
    assert _weights(tmp_path / "parts") == _weights(tmp_path / "whole")
    assert _metrics(tmp_path / "parts") == _metrics(tmp_path / "whole")


def test_fine_tuning_begins_with_the_backbone_of_a_checkpoint(
    uninterrupted: Path, tmp_path: Path
) -> None:
    settings = TrainingSettings(
        architecture="lenet5",
        data="digits",
        classes=("3", "4"),
        epochs=1,
        init=str(uninterrupted),
        freeze_backbone=True,
    )
    result = _train(settings, tmp_path)
    before, after = _tensors(uninterrupted), _tensors(tmp_path)
    assert after["output.weight"].shape == (2, 84)
    for name, tensor in before.items():
        if not name.startswith("output."):
            assert torch.equal(after[name], tensor), name
    assert (
        result.description.normalization == load_checkpoint(uninterrupted).description.normalization
    )
    assert result.description.training["init"] == uninterrupted.name


def test_a_frozen_backbone_keeps_its_batch_statistics(tmp_path: Path) -> None:
    base = TrainingSettings(
        architecture="resnet18",
        data="digits",
        classes=("0", "1"),
        input_size=32,
        epochs=1,
        batch_size=64,
        passes_per_epoch=1,
    )
    write_folder(tmp_path / "pets", classes=("ant", "bee"), pictures=6)
    _train(base.model_copy(update={"channels": 3}), tmp_path / "base")
    save_file(_tensors(tmp_path / "base"), tmp_path / "foreign.safetensors")
    settings = TrainingSettings(
        architecture="resnet18",
        data=f"folder:{tmp_path / 'pets'}",
        input_size=32,
        epochs=1,
        batch_size=4,
        passes_per_epoch=1,
        init=str(tmp_path / "foreign.safetensors"),
        freeze_backbone=True,
    )
    result = _train(settings, tmp_path / "tuned")
    before, after = _tensors(tmp_path / "base"), _tensors(tmp_path / "tuned")
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed == {"fc.weight", "fc.bias"}
    assert result.description.normalization.mean == (0.485, 0.456, 0.406)


def test_fine_tuning_moves_every_weight_unless_it_is_frozen(
    uninterrupted: Path, tmp_path: Path
) -> None:
    _train(LENET.model_copy(update={"init": str(uninterrupted), "epochs": 1}), tmp_path)
    before, after = _tensors(uninterrupted), _tensors(tmp_path)
    assert not any(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_fine_tuning_needs_weights_of_the_architecture(uninterrupted: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(
        architecture="resnet18", data="digits", input_size=32, init=str(uninterrupted)
    )
    with pytest.raises(TrainingError, match="is a lenet5, not a resnet18"):
        _train(settings, tmp_path)


def test_options_of_the_architecture_are_part_of_the_run(tmp_path: Path) -> None:
    settings = LENET.model_copy(
        update={"options": {"pooling": "sum", "activation": "tanh"}, "epochs": 1}
    )
    _train(settings, tmp_path)
    network, description = load_checkpoint(tmp_path)
    assert description.options == {"pooling": "sum", "activation": "tanh"}
    assert "SumPool2d" in repr(network)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "squared-error", "epochs": 12},
        {"mixed_precision": True, "epochs": 5},
        {"augment": False, "epochs": 5},
        {"label_smoothing": 0.0, "epochs": 5},
    ],
)
def test_every_way_of_training_learns(tmp_path: Path, change: dict[str, object]) -> None:
    result = _train(LENET.model_copy(update=change), tmp_path)
    assert result.description.accuracy is not None
    assert result.description.accuracy.top1 >= 0.9


def _tensors(output: Path) -> dict[str, Tensor]:
    return load_file(output / "model.safetensors")
