"""`make zoo`: every architecture from drawn pictures to an answer over gRPC, and docs/zoo.md.

Each network is trained, exported, served and asked by the commands that a user would type.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.command_line import convd, server
from bench.machine import machine
from bench.zoo_training import RECIPES, REPOSITORY, RUN, train_and_publish, training_seconds
from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.preprocessing import prepare_image
from convd.artifact.repository import ModelRepository
from convd.models.checkpoint import load_checkpoint
from convd.models.data import ImageDataset, load_dataset
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub

REPORT = Path("docs/zoo.md")

LEAST_ACCURACY = 0.9
LARGEST_DIFFERENCE = 1e-5

CALLERS = 8
IMAGES_PER_REQUEST = 4
SECONDS_PER_RATE = 5.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    input_size: int
    epochs: int
    seconds: float
    parameters: int
    flops: int
    accuracy: float
    probability_difference: float
    artifact_bytes: int
    images_per_second: float
    answer: str


def main() -> None:
    """Train, export, serve and ask each network, then write the report."""
    where = machine()
    train_and_publish()
    options = ("--provider", "cpu", "--max-batch-size", CALLERS * IMAGES_PER_REQUEST)
    with server(REPOSITORY, RUN / "server.log", *options) as running:
        rows = [_row(name, running.address) for name in RECIPES]
    REPORT.write_text(_report(rows, where), encoding="utf-8")
    print(f"\nwritten: {REPORT}")
    _check(rows)


def _row(name: str, address: str) -> Row:
    network, description = load_checkpoint(RUN / name)
    repository = ModelRepository(REPOSITORY)
    version = repository.version_path(name, max(repository.versions(name)))
    manifest = Artifact.open(version).manifest
    assert manifest.accuracy is not None  # noqa: S101
    height, width, channels = description.preprocessing.output_shape
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, channels, height, width))
    held_out = load_dataset(description.data, seed=description.split_seed).held_out
    prepared = [
        prepare_image(held_out.picture(index), description.preprocessing).tobytes()
        for index in range(len(held_out))
    ]
    return Row(
        name=name,
        input_size=height,
        epochs=RECIPES[name].epochs,
        seconds=training_seconds(name),
        parameters=sum(each.numel() for each in network.parameters()),
        flops=counter.get_total_flops(),
        accuracy=manifest.accuracy.top1,
        probability_difference=max(each.max_probability_difference for each in manifest.parity),
        artifact_bytes=(version / MODEL_FILE).stat().st_size,
        images_per_second=_images_per_second(name, address, prepared),
        answer=_answer(name, address, held_out),
    )


def _answer(name: str, address: str, held_out: ImageDataset) -> str:
    """Ask by `convd classify` about one picture that training never saw."""
    path = RUN / "picture.png"
    held_out.picture(1).save(path)
    printed = convd("classify", path, "--model", name, "--server", address, "--json", capture=True)
    best = json.loads(printed)["classes"][0]
    truth = held_out.labels[held_out.target(1)]
    return f"{best['label']} with {best['probability']:.1%}, is {truth}"


def _images_per_second(name: str, address: str, prepared: list[bytes]) -> float:
    """Closed loop over gRPC: each caller sends its next request when it has an answer."""
    answered = [0] * CALLERS
    ends = time.monotonic() + SECONDS_PER_RATE

    def ask(caller: int, stub: ClassificationServiceStub) -> None:
        first = caller
        while time.monotonic() < ends:
            images = [
                pb.Image(prepared=prepared[(first + step) % len(prepared)])
                for step in range(IMAGES_PER_REQUEST)
            ]
            request = pb.ClassifyRequest(model=pb.ModelSpec(name=name), images=images, top_k=1)
            answer = stub.Classify(request, timeout=60)
            answered[caller] += sum(each.HasField("classification") for each in answer.results)
            first += IMAGES_PER_REQUEST

    began = time.monotonic()
    with grpc.insecure_channel(address) as channel:
        stub = ClassificationServiceStub(channel)
        callers = [threading.Thread(target=ask, args=(each, stub)) for each in range(CALLERS)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
    return sum(answered) / (time.monotonic() - began)


def _check(rows: list[Row]) -> None:
    missed = [
        f"{row.name}: {row.accuracy:.2%} held out, probabilities differ by "
        f"{row.probability_difference:.1e}"
        for row in rows
        if row.accuracy < LEAST_ACCURACY or row.probability_difference > LARGEST_DIFFERENCE
    ]
    if missed:
        raise SystemExit("\n".join(["below what the zoo promises:", *missed]))


def _report(rows: list[Row], where: str) -> str:
    lines = [
        "# The zoo",
        "",
        "One network of each paper, trained on the pictures of 64 x 64 that convd draws "
        "(`--data drawn:`) with the defaults of `convd train` but for the epochs in the table, "
        "exported, served, and asked over gRPC. `make zoo` writes this page.",
        "",
        "| network | input | epochs | seconds | parameters | FLOPs | held-out accuracy "
        "| export parity | model.onnx | images/s | answer to one picture |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row.name} | {row.input_size} x {row.input_size} | {row.epochs} | {row.seconds:,.0f} "
        f"| {row.parameters:,} | {row.flops / 1e6:,.1f} M | {row.accuracy:.2%} "
        f"| {row.probability_difference:.1e} | {row.artifact_bytes / 1e6:,.1f} MB "
        f"| {row.images_per_second:,.0f} | {row.answer} |"
        for row in rows
    ]
    lines += [
        "",
        "- *Input*: LeNet-5 takes no other; colour, four classes.",
        "- *Seconds* to train, with the accuracy after each epoch.",
        "- *Parameters* include GoogLeNet's auxiliary classifiers, which only training uses.",
        "- *FLOPs* of one picture in eval mode, a multiplication and an addition counted as two.",
        "- *Held-out accuracy* on the 400 pictures that training never saw, measured with ONNX "
        "Runtime.",
        "- *Export parity*: largest difference of any probability between ONNX Runtime and "
        "PyTorch, at batch sizes 1, 2, 7 and 32.",
        f"- *Images/s* over gRPC on the CPU provider, {CALLERS} callers in a closed loop with "
        f"{IMAGES_PER_REQUEST} prepared pictures per request, the callers on the same cores as "
        "the server.",
        "",
        f"Machine: {where} Training all of them took "
        f"{sum(row.seconds for row in rows) / 60:.0f} minutes.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
