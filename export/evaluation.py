"""How good the converted network is, measured on the very file that is served."""

import numpy as np
import onnxruntime as ort

from artifact.manifest import Accuracy
from artifact.preprocessing import ImageArray
from export.parity import PROVIDER

_BATCH_SIZE = 32


def measure_accuracy(
    model: bytes, images: list[ImageArray], targets: list[int], data: str
) -> Accuracy:
    """Measure top-1 accuracy with ONNX Runtime.

    Args:
        model: The ONNX file.
        images: Prepared pictures, uint8 `[height, width, channels]` each.
        targets: Their classes.
        data: Which pictures they are, in words.
    """
    session = ort.InferenceSession(model, providers=[PROVIDER])
    correct = 0
    for start in range(0, len(images), _BATCH_SIZE):
        batch = np.stack(images[start : start + _BATCH_SIZE])
        (probabilities,) = session.run(["probabilities"], {"image": batch})
        expected = targets[start : start + _BATCH_SIZE]
        correct += int((probabilities.argmax(axis=1) == expected).sum())
    return Accuracy(top1=correct / len(images), examples=len(images), data=data)
