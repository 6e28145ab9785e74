"""Digits as Pillow draws them, and a model that reads them, made in a second and without torch.

The model is one linear layer over all pixels, fitted by least squares. It has what a published
LeNet-5 has: labels, an accuracy that was measured, a baseline, golden cases of every class. Their
answers were computed in double precision by numpy, not by ONNX Runtime.
"""

import functools
import io
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

from convd.artifact.evidence import Accuracy, Baseline
from convd.artifact.preprocessing import Preprocessing, ResizeTo, prepare_image
from convd.runtime.providers import golden_tolerances
from testbed.published_graphs import publish_network

SIZE = 32
DATA = "drawn digits"
TRAINING_PICTURES = 600
CONFIDENCE_BINS = 20
SHARPNESS = 8.0
"""What the fitted values, from 0 to 1, are multiplied by to be logits."""


class Digits:
    """Held-out pictures of drawn digits: each class as often, in turn.

    Args:
        seed: Another seed draws other pictures.
        count: How many.
    """

    labels = tuple("0123456789")
    preprocessing = Preprocessing(resize=ResizeTo(height=SIZE, width=SIZE), channel_order="L")

    def __init__(self, seed: int = 1, count: int = 120) -> None:
        self._seed = seed
        self._count = count

    def __len__(self) -> int:
        return self._count

    def picture(self, index: int) -> Image.Image:
        """Draw one picture, grayscale and 24 pixels wide and high."""
        random = np.random.default_rng((self._seed, index))
        font = ImageFont.load_default(size=float(random.uniform(19, 21)))
        picture = Image.new("L", (24, 24))
        place = (float(random.uniform(5, 7)), float(random.uniform(-1, 1)))
        ImageDraw.Draw(picture).text(place, self.labels[self.target(index)], fill=255, font=font)
        turned = picture.rotate(float(random.uniform(-6, 6)), Image.Resampling.BICUBIC)
        noisy = np.asarray(turned) + random.normal(0, 12, (24, 24))
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))

    def target(self, index: int) -> int:
        """The class of a picture."""
        return index % len(self.labels)

    def encoded(self, index: int = 0) -> bytes:
        """A picture as PNG."""
        file = io.BytesIO()
        self.picture(index).save(file, "PNG")
        return file.getvalue()

    def prepared(self) -> NDArray[np.uint8]:
        """All pictures as the network takes them: uint8 `[count, height, width, 1]`."""
        pictures = map(self.picture, range(len(self)))
        return np.stack([prepare_image(picture, self.preprocessing) for picture in pictures])


def publish_digits(repository: Path, name: str = "digits") -> Path:
    """Publish the model that reads drawn digits; the artifact's folder."""
    weights, bias = _fitted()
    held_out = Digits()
    logits = held_out.prepared().reshape(len(held_out), -1) @ weights + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    version = publish_network(
        repository,
        name,
        _graph(weights.astype(np.float32), bias.astype(np.float32)),
        Digits.labels,
        Digits.preprocessing,
        [(held_out.picture(index), probabilities[index]) for index in range(len(Digits.labels))],
        golden_tolerances=golden_tolerances("float32"),
        accuracy=_accuracy(held_out, probabilities),
        baseline=_baseline(probabilities),
    )
    return repository / name / str(version)


@functools.cache
def _fitted() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights `[pixels, classes]` and bias `[classes]`, by ridge regression in its dual form."""
    training = Digits(seed=0, count=TRAINING_PICTURES)
    pixels = training.prepared().reshape(len(training), -1) / 255
    mean = pixels.mean(axis=0)
    targets = np.eye(len(Digits.labels))[[training.target(index) for index in range(len(training))]]
    kernel = (pixels - mean) @ (pixels - mean).T + 10 * np.eye(len(training))
    dual = np.linalg.solve(kernel, targets - targets.mean(axis=0))
    weights = SHARPNESS * (pixels - mean).T @ dual
    return weights / 255, -mean @ weights


def _accuracy(held_out: Digits, probabilities: NDArray[np.float64]) -> Accuracy:
    targets = [held_out.target(index) for index in range(len(held_out))]
    right = probabilities.argmax(axis=1) == targets
    return Accuracy(top1=float(right.mean()), examples=len(held_out), data=DATA)


def _baseline(probabilities: NDArray[np.float64]) -> Baseline:
    examples, classes = probabilities.shape
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=classes)
    confident, _ = np.histogram(probabilities.max(axis=1), bins=CONFIDENCE_BINS, range=(0, 1))
    return Baseline(
        data=DATA,
        examples=examples,
        predicted_shares=tuple(map(float, predicted / examples)),
        confidence_shares=tuple(map(float, confident / examples)),
    )


def _graph(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    classes = weights.shape[1]
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["pixels"]),
        helper.make_node("Gemm", ["pixels", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 1])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", classes])
            for output in ("probabilities", "logits")
        ],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    opset = helper.make_opsetid("", 18)
    return onnx.ModelProto(ir_version=9, graph=graph, opset_import=[opset]).SerializeToString()
