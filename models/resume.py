"""The state of an unfinished run, which resumes as if it had never stopped."""

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from convd.artifact.frozen import FrozenModel
from convd.models.errors import TrainingError
from convd.models.output import writing
from convd.models.registry import Weights
from convd.models.settings import TrainingSettings

RESUME_FILE = "resume.safetensors"

_METADATA_KEY = "progress"


class RunProgress(FrozenModel):
    """How far a run has come.

    Attributes:
        settings: Its settings.
        steps: Finished steps.
        loss_sum: Sum of the losses of the pictures of the unfinished epoch.
        correct: How many of those were classified correctly.
        finished_epochs: Finished and recorded epochs.
        best_accuracy: Best accuracy on the watched pictures; used with `patience` only.
        best_epoch: The epoch that reached it, from 1.
        loss_scale: Of mixed precision with float16; None if that is not used.
        loss_scale_steps: Steps since that last changed.
        threads: PyTorch's threads. Another number would split sums, and so round them, differently.
    """

    settings: TrainingSettings
    steps: NonNegativeInt = 0
    loss_sum: float = 0.0
    correct: NonNegativeInt = 0
    finished_epochs: NonNegativeInt = 0
    best_accuracy: float = -1.0
    best_epoch: NonNegativeInt = 0
    loss_scale: float | None = None
    loss_scale_steps: NonNegativeInt = 0
    threads: PositiveInt = Field(default_factory=torch.get_num_threads)


class ResumePoint(NamedTuple):
    """Everything that an unfinished run needs to resume.

    Attributes:
        progress: How far it has come.
        tensors: Weights, momentum and, with `patience`, the best weights so far.
    """

    progress: RunProgress
    tensors: Weights


def save_resume_point(folder: Path, point: ResumePoint) -> None:
    """Write the state to one file, atomically.

    Raises:
        OutputError: It cannot be written; the state that was saved before is still there.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in point.tensors.items()}
    with writing(folder / RESUME_FILE) as partial:
        save_file(tensors, partial, metadata={_METADATA_KEY: point.progress.model_dump_json()})


def load_resume_point(folder: Path, settings: TrainingSettings) -> ResumePoint | None:
    """Read the state of an interrupted run; None if none was saved.

    Args:
        folder: The run's folder.
        settings: The settings to resume with.

    Raises:
        TrainingError: The file is damaged, or the run started with other settings.
    """
    file = folder / RESUME_FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            progress = RunProgress.model_validate_json(opened.metadata()[_METADATA_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValidationError) as error:
        raise TrainingError(
            f"{file} is damaged or was written by another version of convd: start again with "
            "--overwrite"
        ) from error
    for name, began in progress.settings:
        now = getattr(settings, name)
        if now != began:
            option = "--" + name.replace("_", "-")
            raise TrainingError(
                f"{folder} was started with {option} {began}, not {now}: give the same settings to "
                "resume, or start again with --overwrite"
            )
    return ResumePoint(progress, tensors)
