"""Networks of almost no cost, so that what is around a network shows."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import helper
from PIL import Image

from convd.artifact.preprocessing import Preprocessing, ResizeTo, prepare_image
from testbed.published_graphs import mean_network, publish_network

SIDE = 32
RECIPE = Preprocessing(resize=ResizeTo(height=SIDE, width=SIDE))


def publish_classes(repository: Path, classes: int) -> str:
    """Publish a network with a number of classes, unless it is there already; its name."""
    name = f"classes-{classes}"
    if (repository / name).exists():
        return name
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    activation = helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1)
    network = mean_network(np.random.default_rng(classes), activation, RECIPE, classes)
    image = prepare_image(picture, RECIPE)[np.newaxis]
    (probabilities,) = ort.InferenceSession(network).run(["probabilities"], {"image": image})
    labels = tuple(f"class {index}" for index in range(classes))
    publish_network(repository, name, network, labels, RECIPE, [(picture, probabilities[0])])
    return name
