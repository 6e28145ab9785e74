"""What a training run is about to do, shown before its first epoch."""

from collections import Counter
from collections.abc import Sequence

import torch
from rich.console import Console

from convd.models.data.dataset import targets_of
from convd.models.preparation import PreparedRun
from convd.models.settings import TrainingSettings

MAX_BROKEN_FILES = 10
_MAX_CLASSES = 8


def show_broken_files(problems: Sequence[str], console: Console) -> None:
    """Name the files that are skipped, or the first of many."""
    for problem in problems[:MAX_BROKEN_FILES]:
        _print(console, f"skipped {problem}")
    if len(problems) > MAX_BROKEN_FILES:
        _print(
            console,
            f"skipped {len(problems) - MAX_BROKEN_FILES:,} more files that cannot be read; "
            "--strict-data lists them all",
        )


def show_run(
    run: PreparedRun,
    settings: TrainingSettings,
    *,
    device: torch.device,
    threads: int,
    console: Console,
) -> None:
    """Print data, classes, sizes, network and device, a line each.

    Args:
        run: The run.
        settings: Its settings.
        device: What it computes on.
        threads: Threads of each operator on the processor.
        console: Where to print.
    """
    parts = f"{len(run.train):,} pictures to train on, {len(run.held_out):,} held out"
    if run.data.broken_files:
        parts += f", {len(run.data.broken_files):,} that cannot be read left out"
    if run.validation is not None:
        parts += f", {len(run.validation):,} to decide when to stop"
    height, width, channels = run.preprocessing.output_shape
    parameters = sum(each.numel() for each in run.initial.network.parameters())
    passes = "" if run.passes_per_epoch == 1 else f" ({run.passes_per_epoch} passes)"
    rows = {
        "data": f"{settings.data}: {parts}",
        "classes": _classes(run),
        "input": f"{height} x {width}, {'grayscale' if channels == 1 else 'colour'}"
        + (", turned upright by EXIF" if run.preprocessing.apply_exif_orientation else ""),
        "network": f"{run.architecture.name}, {parameters:,} parameters",
        "weights": run.initial.weights,
        "steps": f"{settings.epochs} epochs of {run.steps_per_epoch:,}{passes}, {run.batch_size} "
        f"pictures each, learning rate {run.learning_rate:.4g}",
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"processor, {threads} thread{'s' if threads > 1 else ''}",
    }
    for subject, what in rows.items():
        _print(console, f"{subject:8} {what}")


def _classes(run: PreparedRun) -> str:
    """Each class with its pictures; of many, the smallest and the largest."""
    labels = run.data.labels
    counts = Counter(targets_of(run.data.train)) + Counter(targets_of(run.data.held_out))
    sizes = [(counts[index], label) for index, label in enumerate(labels)]
    if len(labels) > _MAX_CLASSES:
        least, most = min(sizes), max(sizes)
        return f"{len(labels)}, from {least[1]} ({least[0]:,}) to {most[1]} ({most[0]:,})"
    return f"{len(labels)}: " + ", ".join(f"{label} ({count:,})" for count, label in sizes)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
