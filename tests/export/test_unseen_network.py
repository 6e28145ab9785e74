"""A network that convd has never seen goes from a file to answers over gRPC."""

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image

from convd.commands.export import command
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.export.unseen_network import build
from tests.support import png, running_server

FILE = Path(__file__).with_name("unseen_network.py")
PICTURES = 200
BATCH = 20


def test_probabilities_over_grpc_are_those_of_pytorch(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    words = f"{FILE}:build --name unseen --repository {repository} --labels a,b,c,d,e"
    words += " --resize 96x96 --channel-order L --mean 0.5 --std 0.5"
    exported = CliRunner().invoke(command, words.split())
    assert exported.exit_code == 0, exported.output

    generator = np.random.default_rng(0)
    contrast, brightness = generator.random((2, PICTURES, 1, 1))
    coarse = (generator.random((PICTURES, 12, 12)) - 0.5) * contrast + brightness
    coarse = (255 * coarse.clip(0, 1)).astype(np.uint8)
    pictures = [Image.fromarray(one).resize((96, 96)) for one in coarse]
    pixels = torch.from_numpy(np.stack([np.array(one) for one in pictures]))
    with torch.inference_mode():
        expected = build()(((pixels / 255 - 0.5) / 0.5).unsqueeze(1)).softmax(dim=1).numpy()
    assert len(set(expected.argmax(axis=1))) >= 3

    rows: list[pb.ImageResult] = []
    with running_server(repository) as client:
        for start in range(0, PICTURES, BATCH):
            files = [png(one) for one in pictures[start : start + BATCH]]
            rows += client.classify(*files, model="unseen").results
    found = np.zeros_like(expected)
    for row, result in enumerate(rows):
        for one in result.classification.classes:
            found[row, one.index] = one.probability
    assert np.abs(found - expected).max() < 1e-5
