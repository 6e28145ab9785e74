"""What the lifecycle's drills are played with: versions that answer differently, or are broken."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.decoding import decode_image
from convd.artifact.graph_contract import IMAGE, OUTPUTS
from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import prepare_image
from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.models import create_model
from convd.models.checkpoint import CheckpointDescription, save_checkpoint
from convd.models.data import load_dataset
from convd.protos.convd.v1 import classification_pb2 as pb
from testbed.variants import update_checksums, write_variant

MODEL = "digits"


@dataclass
class Stage:
    """What the drills are played with.

    Attributes:
        folder: Where everything is written.
        image: An encoded picture.
        inputs: Input size, in pixels, to an artifact with such an input.
        expected: Probabilities of the picture, by version; filled as versions are published.
    """

    folder: Path
    image: bytes
    inputs: dict[int, Path]
    expected: dict[int, NDArray[np.float32]]

    def repository(self, name: str) -> Path:
        """An empty repository."""
        self.expected.clear()
        root = self.folder / name
        (root / MODEL).mkdir(parents=True)
        return root

    def prepare(self, version: int, *, size: int = 32) -> Path:
        """Write a version with weights of its own, and note what it will answer."""
        path = self.folder / "prepared" / str(version)
        shutil.rmtree(path, ignore_errors=True)
        write_variant(self.inputs[size], path, seed=version)
        artifact = Artifact.open(path)
        prepared = prepare_image(decode_image(self.image), artifact.manifest.preprocessing)
        session = ort.InferenceSession(path / MODEL_FILE, providers=["CPUExecutionProvider"])
        (probabilities,) = session.run(
            [OUTPUTS.probabilities.name], {IMAGE.name: prepared[np.newaxis]}
        )
        for other, answer in self.expected.items():
            if np.abs(answer - probabilities[0]).max() < 0.01:
                raise SystemExit(f"versions {other} and {version} answer alike: nothing is proved")
        self.expected[version] = probabilities[0]
        return path

    def request(self) -> pb.ClassifyRequest:
        """What callers ask: every class of one picture."""
        images = [pb.Image(encoded=self.image)]
        return pb.ClassifyRequest(model=pb.ModelSpec(name=MODEL), images=images, top_k=0)


def set_up(folder: Path) -> Stage:
    """Publish a network per input size; how good it is does not matter here."""
    splits = load_dataset("digits")
    inputs = {}
    for size, architecture in ((32, "lenet5"), (40, "resnet18")):
        torch.manual_seed(size)
        network = create_model(architecture, num_classes=10, in_channels=1)
        description = CheckpointDescription(
            architecture=architecture,
            num_classes=10,
            in_channels=1,
            labels=splits.labels,
            preprocessing=splits.preprocessing(size),
            normalization=Normalization(mean=(0.3,), std=(0.35,)),
            data="digits",
        )
        checkpoint = folder / f"checkpoint-{size}"
        save_checkpoint(checkpoint, network, description)
        published = publish(
            network_from_checkpoint(checkpoint), ModelRepository(folder / f"origin-{size}"), MODEL
        )
        inputs[size] = published.path
    image = next((inputs[32] / "golden").glob("*.png")).read_bytes()
    return Stage(folder, image, inputs, {})


def flip_byte(path: Path) -> None:
    """Alter the network, and no checksum."""
    data = bytearray((path / MODEL_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (path / MODEL_FILE).write_bytes(data)


def swap_network(path: Path) -> None:
    """Put another network under the golden answers, with every checksum in order."""
    other = path.with_name("other")
    write_variant(path, other, seed=99)
    shutil.copy(other / MODEL_FILE, path / MODEL_FILE)
    shutil.rmtree(other)
    update_checksums(path)


def claim_size(path: Path) -> None:
    """Name an input size that the network does not take."""
    manifest = Artifact.open(path).manifest
    resize = manifest.preprocessing.resize.model_copy(update={"height": 48, "width": 48})
    update_checksums(
        path, preprocessing=manifest.preprocessing.model_copy(update={"resize": resize})
    )
