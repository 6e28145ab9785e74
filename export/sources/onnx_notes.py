"""What is known of an ONNX file's labels and pictures, and the settings that say it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.export.graph.network_graph import ImageInput
from convd.export.sources.timm_zoo import timm_preprocessing
from convd.export.sources.transformers_folder import names_of_labels
from convd.export.sources.zoo import Recipe, distinct

_LABEL_KEYS = ("names", "labels", "classes", "id2label", "class_names", "label_names")


class OnnxNotes(NamedTuple):
    """What is known of a network that is an ONNX file.

    Attributes:
        labels: Class names; None where nothing says them.
        preprocessing: The recipe of pictures; None where nothing says it.
        normalization: Likewise.
        origins: Where single facts were read, by the names of their flags without dashes, but for
            what is read from the form of the graph.
        recipe: The library's own code for pictures, to compare with.
        is_multilabel: Whether the network was trained for independent labels.
    """

    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    normalization: Normalization | None = None
    origins: Mapping[str, str] = {}
    recipe: Recipe | None = None
    is_multilabel: bool = False


def origins_of(
    origin: str,
    labels: tuple[str, ...] | None,
    recipe: Preprocessing | None,
    normalization: Normalization | None,
) -> dict[str, str]:
    """One origin for each fact that is known, by the name of its flag."""
    flags = (
        *(("labels",) if labels else ()),
        *(("resize", "crop", "interpolation", "channel-order") if recipe else ()),
        *(("mean", "std") if normalization else ()),
    )
    return dict.fromkeys(flags, origin)


def timm_settings(
    settings: Mapping[str, Any], given: ImageInput
) -> tuple[Preprocessing | None, Normalization | None]:
    """The recipe and normalisation that the keys of timm's `pretrained_cfg` say, as far as they do.

    Raises:
        SourceError: convd lacks the recipe.
    """
    mean, std = (_numbers(settings.get(key), given.channels) for key in ("mean", "std"))
    normalization = None
    if mean is not None and std is not None and min(std) > 0:
        normalization = Normalization(mean=mean, std=std)
    size = settings.get("input_size") or (given.channels, given.height, given.width)
    if not isinstance(settings.get("crop_pct"), int | float) or None in size:
        return None, normalization
    recipe = timm_preprocessing(
        {
            "crop_pct": settings["crop_pct"],
            "crop_mode": settings.get("crop_mode") or "center",
            "interpolation": settings.get("interpolation") or "bicubic",
            "input_size": (given.channels, given.height or size[1], given.width or size[2]),
        },
        given.channels,
    )
    return recipe, normalization


def labels_in(settings: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names, such as `{0: 'cat', 1: 'dog'}`."""
    for key in _LABEL_KEYS:
        value = settings.get(key)
        if isinstance(value, Mapping):
            try:
                value = names_of_labels(value)
            except ValueError:
                continue
        if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
            return distinct(list(value)) if key == "label_names" else tuple(value)
    return None


def _numbers(value: object, channels: int) -> tuple[float, ...] | None:
    """One number for each channel; None where it is something else."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = tuple(float(one) for one in values if isinstance(one, int | float))
    if len(numbers) != len(values) or len(numbers) not in (1, channels):
        return None
    return numbers if len(numbers) == channels else numbers * channels
