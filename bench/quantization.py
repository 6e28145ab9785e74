"""What int8 costs and gains: ResNet-18 that reads digits, before and after; writes a page of docs/.

Every figure is of one run on one machine, and both networks are timed in turns.
"""

import time
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.machine import machine
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.repository import ModelRepository
from convd.export.options import ExportOptions
from convd.export.progress import TerminalProgress
from convd.export.publication import publish
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.export.sources.labelled_pictures import load_training_part
from convd.models.checkpoint import is_checkpoint
from convd.models.settings import TrainingSettings
from convd.models.training import train
from convd.runtime.cpu import CPU
from convd.runtime.session import Session

RUN = Path("runs/quantization")
PAGE = Path("docs/quantization.md")
INPUT_SIZE = 64
EPOCHS = 4
BATCH_SIZES = (1, 8, 32)
ROUNDS = 60
MIN_SPEEDUP = 2.5
MAX_ACCURACY_DROP = 0.01


def main() -> None:
    """Train, export twice, measure, write the page, and fail where the promise is not kept."""
    where = machine()
    console = Console(stderr=True)
    settings = TrainingSettings(
        architecture="resnet18", data="digits", input_size=INPUT_SIZE, epochs=EPOCHS
    )
    checkpoint = RUN / "checkpoint"
    if not is_checkpoint(checkpoint):
        train(settings, checkpoint, console=console)
    source = network_from_checkpoint(checkpoint)
    repository = ModelRepository(RUN / "repository")
    with TerminalProgress(console) as progress:
        plain = publish(source, repository, "float32", ExportOptions(), progress)
        options = ExportOptions(
            precision="int8",
            quantization_data=load_training_part("digits"),
            max_accuracy_drop=MAX_ACCURACY_DROP,
        )
        small = publish(source, repository, "int8", options, progress)
    quantization = small.manifest.quantization
    assert quantization is not None  # noqa: S101
    assert quantization.top1_before is not None  # noqa: S101
    assert quantization.top1_after is not None  # noqa: S101
    sessions = [Session(Artifact.open(each.path).read(MODEL_FILE), CPU) for each in (plain, small)]
    rows = [(batch, *_images_per_second(sessions, batch)) for batch in BATCH_SIZES]
    sizes = [(each.path / MODEL_FILE).stat().st_size for each in (plain, small)]
    drop = quantization.top1_before - quantization.top1_after
    page = _page(where, rows, sizes, quantization.top1_before, quantization.top1_after)
    PAGE.write_text(page, encoding="utf-8")
    print(page)
    slowest = min(fast / slow for _, slow, fast in rows)
    if slowest < MIN_SPEEDUP or drop > MAX_ACCURACY_DROP:
        raise SystemExit(f"the promise is not kept: {slowest:.2f} times as fast, drop {drop:.2%}")


def _images_per_second(sessions: list[Session], batch: int) -> list[float]:
    """The best of several rounds in turns, so that both meet the same disturbances."""
    shape = (batch, INPUT_SIZE, INPUT_SIZE, 1)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    best = [float("inf")] * len(sessions)
    repeats = max(1, 32 // batch)
    for session in sessions:
        session.run(images)
    for _ in range(ROUNDS):
        for index, session in enumerate(sessions):
            started = time.perf_counter()
            for _ in range(repeats):
                session.run(images)
            best[index] = min(best[index], (time.perf_counter() - started) / repeats)
    return [batch / seconds for seconds in best]


def _page(
    where: str,
    rows: list[tuple[float, ...]],
    sizes: list[int],
    top1_before: float,
    top1_after: float,
) -> str:
    lines = [
        "# What int8 costs and gains",
        "",
        f"ResNet-18 trained for {EPOCHS} epochs on scikit-learn's digits, scaled to {INPUT_SIZE} x "
        f"{INPUT_SIZE}; static QDQ quantisation on the CPU provider, with weights of 7 bits and "
        "one scale per channel. Made by `make quantization`; each figure is the best of several "
        "rounds in turns.",
        "",
        f"Machine: {where}",
        "",
        "| batch | float32, images/s | int8, images/s | ratio |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {batch:.0f} | {slow:,.0f} | {fast:,.0f} | {fast / slow:.2f} |"
        for batch, slow, fast in rows
    ]
    lines += [
        "",
        f"Top-1 accuracy on held-out digits: {top1_before:.2%} in float32, {top1_after:.2%} in "
        f"int8. Size of the file: {sizes[0] / 1e6:.1f} MB and {sizes[1] / 1e6:.1f} MB.",
        "",
        "The gain depends on the processor: it is largest with instructions for 8-bit products "
        "(VNNI or AMX), and smaller where float32 is fast (full-width AVX-512). Below 64 x 64 the "
        "work between the convolutions outweighs it.",
        "",
        "The answers do not depend on the processor. Without VNNI, processors add two products of "
        "uint8 and int8 in 16 bits, where weights of 8 bits can saturate; weights of 7 bits "
        "cannot. `make test-int8` runs the tests of int8 on an emulated processor without VNNI.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
