"""A published model that is made in milliseconds, without training and without torch.

Its network is the mean of each channel, a fixed linear layer and softmax, or a sigmoid for each
label: enough to tell pictures, rows and classes apart.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import helper
from PIL import Image

from convd.artifact.manifest import Task
from convd.artifact.preprocessing import Preprocessing, ResizeTo, prepare_image
from testbed.published_graphs import mean_network, publish_network

HEIGHT, WIDTH = 4, 6
LABELS = ("cat", "dog", "ship")
RECIPE = Preprocessing(resize=ResizeTo(height=HEIGHT, width=WIDTH))


def publish_tiny(
    repository: Path,
    name: str = "pets",
    *,
    seed: int = 0,
    task: Task = "multiclass",
    recipe: Preprocessing = RECIPE,
    **evidence: Any,
) -> int:
    """Publish the next version of a model; another seed gives another network."""
    picture = Image.fromarray(
        np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    )
    activation = (
        helper.make_node("Sigmoid", ["logits"], ["probabilities"])
        if task == "multilabel"
        else helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1)
    )
    network = mean_network(np.random.default_rng(seed), activation, recipe, len(LABELS))
    image = prepare_image(picture, recipe)[np.newaxis]
    (probabilities,) = ort.InferenceSession(network).run(["probabilities"], {"image": image})
    golden = [(picture, probabilities[0])]
    return publish_network(repository, name, network, LABELS, recipe, golden, task=task, **evidence)
