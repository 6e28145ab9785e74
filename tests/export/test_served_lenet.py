"""A LeNet-5 of `models/`, exported and served, answers as it does in PyTorch."""

import numpy as np

from convd.artifact.preprocessing import prepare_image
from convd.export.proof.reference import Reference, probabilities_of
from convd.export.source import TrainedNetwork
from tests.support import Client, png

PICTURES = 100
BATCH = 10


def test_answers_equal_pytorchs_on_a_hundred_held_out_images(
    client: Client, trained: TrainedNetwork
) -> None:
    network = Reference(trained.network, trained.normalization)
    for start in range(0, PICTURES, BATCH):
        pictures = [trained.examples.picture(index) for index in range(start, start + BATCH)]
        images = np.stack([prepare_image(one, trained.preprocessing) for one in pictures])
        expected = probabilities_of("logits", network.outputs(images))
        results = client.classify(*map(png, pictures)).results
        for result, row in zip(results, expected, strict=True):
            found = {one.index: one.probability for one in result.classification.classes}
            assert np.abs([found[index] for index in range(len(row))] - row).max() < 1e-5
