"""Finds why a network fails, by trying: one cause, and no flag that cannot help."""

import linecache
import re
import traceback
from pathlib import Path

import numpy as np

import convd
from convd.artifact.manifest import Normalization
from convd.export.errors import ConversionError
from convd.export.proof.reference import Images, Reference

_BATCHES = (1, 2, 3, 4, 8, 16, 32, 64)
_COMMON_SIZES = (28, 32, 64, 96, 128, 224, 227, 256, 299, 384)
_INSTALLED = {"site-packages", "dist-packages"}
_ROOMS = tuple(str(room.resolve()) for room in Path(convd.__path__[0]).iterdir() if room.is_dir())


def explain_failure(reference: Reference, images: Images, error: Exception) -> ConversionError:
    """Try what differs from the failed attempt, one thing at a time.

    Args:
        reference: The network that failed.
        images: What it failed on.
        error: How it failed.
    """
    line = user_line(error)
    where = f" at {line}" if line else ""
    said = first_line(error)
    count, height, width, channels = images.shape
    for size in _BATCHES:
        if size != count and _answers(reference, np.repeat(images[:1], size, axis=0)):
            return ConversionError(
                f"the network answers batches of {size} but not of {count}, so its batch size is "
                f"frozen{where} ({said}): write x.flatten(1) instead of x.view({size}, -1), "
                f"x.reshape({size}, -1) or x.squeeze()"
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


def user_line(error: BaseException) -> str | None:
    """The innermost line of the user's own code that an error passed through.

    Returns:
        File, line and code, such as `net.py:12: x = x.view(1, -1)`; None where there is none.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename).resolve()
        users = _INSTALLED.isdisjoint(file.parts) and not str(file).startswith(_ROOMS)
        if users and file.is_file():
            code = linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f"{file.name}:{frame.lineno}: {code}"
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    # ONNX Runtime begins with its own name and the number of a status.
    return (
        re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", lines[0]) if lines else type(error).__name__
    )


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
