"""Finds why a network fails, by trying: one cause, and no flag that cannot help."""

import re

import numpy as np

from convd.artifact.manifest import Normalization
from convd.export.errors import ConversionError
from convd.export.proof.reference import Images, Reference, network_input
from convd.export.proof.symptoms import known_cause
from convd.export.proof.watching import reshaping_line
from convd.export.user_lines import line_of_error

_BATCHES = (1, 2, 3, 4, 8, 16, 32, 64)
_COMMON_SIZES = (28, 32, 64, 96, 128, 224, 227, 256, 299, 384)
_RESHAPING = ("view", "reshape", "squeeze", "flatten")


def explain_failure(reference: Reference, images: Images, error: Exception) -> ConversionError:
    """Try what differs from the failed attempt, one thing at a time.

    Args:
        reference: The network that failed.
        images: What it failed on.
        error: How it failed.
    """
    line = line_of_error(error)
    said = first_line(error)
    cause = known_cause(error, said, line)
    if cause is not None:
        return ConversionError(cause)
    where = f" at {line}" if line else ""
    count, height, width, channels = images.shape
    for size in _BATCHES:
        if size != count and _answers(reference, np.repeat(images[:1], size, axis=0)):
            frozen = reshaping_line(lambda: reference.outputs(images), count) or line
            where = f" at {frozen}" if frozen else ""
            reshapes = frozen is None or any(word in frozen for word in _RESHAPING)
            return ConversionError(
                f"the network answers batches of {size} but not of {count}, so its batch size is "
                f"frozen{where} ({said}): "
                + (
                    f"write x.flatten(1) instead of x.view({size}, -1), x.reshape({size}, -1) or "
                    "x.squeeze()"
                    if reshapes
                    else "let it take any number of pictures"
                )
            )
    if _takes_channels_last(reference, images):
        return ConversionError(
            "the network takes pictures with their channels last: give a function that returns a "
            "module whose forward(self, x) passes on x.permute(0, 2, 3, 1)"
        )
    other = 1 if channels == 3 else 3
    if _answers(reference, np.zeros((count, height, width, other), np.uint8)):
        order = "L" if other == 1 else "RGB"
        return ConversionError(
            f"the network takes pictures with {other} channel{'s' if other > 1 else ''}, not "
            f"{channels}: give --channel-order {order}"
        )
    for size in _COMMON_SIZES:
        if (size, size) != (height, width) and _answers(
            reference, np.zeros((count, size, size, channels), np.uint8)
        ):
            return ConversionError(
                f"the network fails on pictures of {height} x {width}{where} ({said}), but takes "
                f"{size} x {size}: give the size that it was trained on, such as --resize "
                f"{size}x{size}"
            )
    return ConversionError(
        f"the network fails on pictures of {[height, width, channels]}{where}: "
        f"{type(error).__name__}: {said}"
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    # ONNX Runtime begins with its own name and the number of a status.
    return (
        re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", lines[0]) if lines else type(error).__name__
    )


def _takes_channels_last(reference: Reference, images: Images) -> bool:
    inputs = network_input(images, reference.normalization)
    try:
        outputs = reference.run(np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)))
    # What it fails with does not matter here.
    except Exception:
        return False
    return len(outputs) == len(images)


def _answers(reference: Reference, images: Images) -> bool:
    channels, normalization = images.shape[3], reference.normalization
    if normalization is not None and len(normalization.mean) != channels:
        normalization = Normalization(
            mean=normalization.mean[:1] * channels, std=normalization.std[:1] * channels
        )
    try:
        outputs = reference.outputs_with(images, normalization)
    # What it fails with does not matter here.
    except Exception:
        return False
    return len(outputs) == len(images)
