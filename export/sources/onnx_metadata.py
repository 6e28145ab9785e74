"""What an ONNX file's own metadata say of labels and pictures.

The keys of Windows ML and Custom Vision are those of ONNX's `docs/MetadataProps.md`.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import ChannelOrder, Preprocessing
from convd.export.graph.network_graph import ImageInput
from convd.export.sources.image_processor import read_image_processor
from convd.export.sources.onnx_notes import OnnxNotes, labels_in, origins_of, timm_settings

_NESTED_KEYS = ("config", "pretrained_cfg", "preprocessor_config", "preprocessor", "preprocess")
_CUSTOM_VISION_OUTPUTS = {"loss", "model_output"}
_PIXEL_FORMATS: dict[str, ChannelOrder] = {
    "gray8": "L",
    "rgb8": "RGB",
    "rgba8": "RGB",
    "bgr8": "BGR",
    "bgra8": "BGR",
}
_PIXEL_RANGES = {
    "nominalrange_0_255": (0.0, 1 / 255),
    "normalized_0_1": (0.0, 1.0),
    "normalized_1_1": (0.5, 0.5),
}
"""Mean and std of pixels from 0 to 1 that give the range."""


def notes_in_file(
    model: ModelProto, given: ImageInput, squeezed: Preprocessing | None
) -> OnnxNotes:
    """Read a file's own metadata.

    Args:
        model: The model as it is in the file.
        given: Its input.
        squeezed: The recipe that its input suggests; None where its size is dynamic.
    """
    notes = {note.key.lower(): note.value for note in model.metadata_props}
    windows = _windows_notes(notes, model, given, squeezed)
    if windows is not None:
        return windows
    settings: dict[str, Any] = {key: _value(text) for key, text in notes.items()}
    for key in _NESTED_KEYS:
        nested = settings.get(key)
        if isinstance(nested, Mapping):
            settings |= {str(name): each for name, each in nested.items() if name not in settings}
    origin = "the file's metadata"
    labels = labels_in(settings)
    recipe, normalization = timm_settings(settings, given)
    if "image_mean" in settings:
        recipe, normalization = read_image_processor(settings, given.channels)
    origins = origins_of(origin, labels, recipe, normalization)
    return OnnxNotes(labels, recipe or squeezed, normalization, origins)


def _windows_notes(
    notes: Mapping[str, str], model: ModelProto, given: ImageInput, squeezed: Preprocessing | None
) -> OnnxNotes | None:
    """Windows ML's keys; None where there are none."""
    order = _PIXEL_FORMATS.get(notes.get("image.bitmappixelformat", "").lower())
    values = _PIXEL_RANGES.get(notes.get("image.nominalpixelrange", "").lower())
    if order is None and values is None:
        return None
    origins, normalization = {}, None
    if values is not None:
        mean, std = values
        normalization = Normalization(mean=(mean,) * given.channels, std=(std,) * given.channels)
        origins = dict.fromkeys(("mean", "std"), "Image.NominalPixelRange of the file")
    recipe = squeezed
    if recipe is not None and order is not None and (order == "L") == (given.channels == 1):
        recipe = recipe.model_copy(update={"channel_order": order})
        origins["channel-order"] = "Image.BitmapPixelFormat of the file"
    if recipe is not None and _CUSTOM_VISION_OUTPUTS & {each.name for each in model.graph.output}:
        # The code that Custom Vision exports with a model calls Pillow's resize() and no more.
        recipe = recipe.model_copy(update={"interpolation": "bicubic"})
        origins["interpolation"] = "Custom Vision's own code"
    labels = labels_in({key: _value(text) for key, text in notes.items()})
    return OnnxNotes(labels, recipe, normalization, origins)


def _value(text: str) -> Any:  # noqa: ANN401
    """A value that was written as JSON or by Python; else the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
