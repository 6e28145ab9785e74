"""Training: from settings to a checkpoint."""

import signal
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import nn

from convd.artifact.manifest import Accuracy
from convd.models.checkpoint import CheckpointDescription, is_checkpoint, save_checkpoint
from convd.models.devices import select_device
from convd.models.errors import TrainingError
from convd.models.interruption import Interruption
from convd.models.output import check_writable
from convd.models.plots import (
    CONFUSION_MATRIX_FILE,
    LEARNING_CURVE_FILE,
    plot_confusion_matrix,
    plot_learning_curve,
)
from convd.models.preparation import PreparedRun, prepare_run
from convd.models.resume import RESUME_FILE, ResumePoint, RunProgress, load_resume_point
from convd.models.settings import TrainingSettings
from convd.models.summary import show_broken_files, show_run
from convd.models.threads import intra_op_threads, step_flops, threads_for
from convd.models.training_loop import TrainingLoop


class TrainingResult(NamedTuple):
    """The outcome of a run, finished or interrupted.

    Attributes:
        network: The network in eval mode.
        description: Its description, as in the checkpoint; without accuracy if the run was
            interrupted.
        interrupted_by: The signal that interrupted the run; None if it finished.
    """

    network: nn.Module
    description: CheckpointDescription
    interrupted_by: signal.Signals | None


def train(
    settings: TrainingSettings,
    output: Path,
    *,
    console: Console,
    overwrite: bool = False,
    resume: bool = False,
    interruption: Interruption | None = None,
) -> TrainingResult:
    """Train a network and write a checkpoint, the metrics of every epoch, and two plots.

    Args:
        settings: What to train, on what, and how.
        output: The checkpoint's folder.
        console: Where to show the run and its progress.
        overwrite: Whether an existing checkpoint may be replaced.
        resume: Whether to resume an interrupted run with the same settings.
        interruption: Asks the run to stop; None never does.

    Returns:
        The trained network. If the run was interrupted, the checkpoint holds the best weights so
        far with `patience` and the last ones without, and resuming gives the same weights as an
        uninterrupted run.

    Raises:
        ModelsError: The settings do not fit together, the data cannot be used, or training fails.
    """
    check_writable(output)
    device = select_device(settings.device)
    point = _beginning(settings, output, overwrite=overwrite, resume=resume)
    with console.status("") as status:
        run = prepare_run(settings, status.update)
    show_broken_files(run.data.broken_files, console)
    flops = step_flops(run.initial.network, run.preprocessing.output_shape, run.batch_size)
    # Another number of threads would round differently from what the run began with.
    threads = point.progress.threads if point else threads_for(flops, torch.get_num_threads())
    show_run(run, settings, device=device, threads=threads, console=console)
    with intra_op_threads(threads), interruption or Interruption() as stop:
        loop = TrainingLoop(
            run, settings, output, device=device, console=console, interruption=stop, point=point
        )
        return _train(run, loop, output, stop)


def _train(
    run: PreparedRun, loop: TrainingLoop, output: Path, interruption: Interruption
) -> TrainingResult:
    if not loop.run():
        description = _describe(run, loop.progress, accuracy=None)
        save_checkpoint(output, loop.network, description)
        return TrainingResult(loop.network.eval(), description, interruption.signal)
    predictions = loop.predict(run.held_out)
    accuracy = Accuracy(
        top1=predictions.top1, examples=len(run.held_out), data=run.data.held_out_name
    )
    description = _describe(run, loop.progress, accuracy=accuracy)
    plot_learning_curve(loop.records, output / LEARNING_CURVE_FILE)
    plot_confusion_matrix(predictions.confusion, run.data.labels, output / CONFUSION_MATRIX_FILE)
    save_checkpoint(output, loop.network, description)
    (output / RESUME_FILE).unlink(missing_ok=True)
    return TrainingResult(loop.network.eval(), description, None)


def _beginning(
    settings: TrainingSettings, output: Path, *, overwrite: bool, resume: bool
) -> ResumePoint | None:
    """The state to resume from; None if the run starts from the beginning."""
    if resume and overwrite:
        raise TrainingError(
            "--resume continues a run and --overwrite starts again: give one of them"
        )
    if not resume:
        if not overwrite and (is_checkpoint(output) or (output / RESUME_FILE).exists()):
            resuming = ", continue it with --resume" if (output / RESUME_FILE).exists() else ""
            raise TrainingError(
                f"{output} already holds a run: choose another folder{resuming}, or start again "
                "with --overwrite"
            )
        (output / RESUME_FILE).unlink(missing_ok=True)
        return None
    point = load_resume_point(output, settings)
    if point is None and is_checkpoint(output):
        raise TrainingError(
            f"the run in {output} is finished, so there is nothing to resume: choose another "
            "folder, or start again with --overwrite"
        )
    return point


def _describe(
    run: PreparedRun, progress: RunProgress, *, accuracy: Accuracy | None
) -> CheckpointDescription:
    settings = progress.settings
    training: dict[str, str | int | float | bool] = {
        "data": settings.data,
        "epochs": progress.finished_epochs,
        "batch_size": run.batch_size,
        "passes_per_epoch": run.passes_per_epoch,
        "learning_rate": run.learning_rate,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
        "loss": settings.loss,
        "label_smoothing": settings.effective_label_smoothing,
        "augmentation": settings.augment,
        "seed": settings.seed,
        "pictures": len(run.train),
        "finished": accuracy is not None,
    }
    if settings.init is not None:
        # A library's name means the same everywhere, a path only here.
        is_local = Path(settings.init.removeprefix("hf:")).expanduser().exists()
        training["init"] = Path(settings.init).name if is_local else settings.init
    if progress.best_epoch:
        training["best_epoch"] = progress.best_epoch
    return CheckpointDescription(
        architecture=run.architecture.name,
        options=run.initial.options,
        num_classes=len(run.data.labels),
        in_channels=run.preprocessing.channels,
        labels=run.data.labels,
        preprocessing=run.preprocessing,
        normalization=run.normalization,
        data=settings.data,
        classes=settings.classes,
        split_seed=settings.seed,
        accuracy=accuracy,
        training=training,
    )
