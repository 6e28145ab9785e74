"""Reads `preprocessor_config.json`, in which transformers keeps what it does to a picture."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.export.errors import SourceError
from convd.export.sources.zoo import interpolation

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_LARGEST_CUT = 384
"""ConvNext's processor cuts the middle of smaller pictures than this, and squeezes the others."""


class ProcessorRecipe(NamedTuple):
    """What a processor does to a picture.

    Attributes:
        preprocessing: From the picture to uint8 pixels.
        normalization: From pixels to the network's input.
    """

    preprocessing: Preprocessing
    normalization: Normalization


def read_image_processor(config: Mapping[str, Any], channels: int) -> ProcessorRecipe:
    """Turn the settings of an image processor into a recipe.

    Args:
        config: What `preprocessor_config.json` says, with the processor's own defaults in it.
        channels: Channels that the network takes: 1 or 3.

    Raises:
        SourceError: It does something that convd lacks.
    """
    _refuse_other_steps(config)
    resize, crop = _resize_and_crop(config)
    filters = config.get("resample", 2)
    return ProcessorRecipe(
        Preprocessing(
            resize=resize,
            center_crop=crop,
            interpolation=interpolation(_FILTERS.get(filters, str(filters))),
            channel_order=_channel_order(config, channels),
        ),
        _normalization(config, channels),
    )


def _refuse_other_steps(config: Mapping[str, Any]) -> None:
    """Refuse what no recipe does exactly as the processor."""
    if not config.get("do_resize", True):
        raise _lacking("it does not scale pictures")
    if config.get("do_pad") or config.get("do_thumbnail"):
        raise _lacking("it pads pictures on one side, or makes thumbnails of them")
    if config.get("do_color_quantize"):
        raise _lacking("it replaces colours by the nearest of a palette")
    kind = str(config.get("image_processor_type", ""))
    if kind.startswith("Perceiver") and config.get("do_center_crop"):
        raise _lacking("it cuts a square out of the middle before it scales")


def _resize_and_crop(
    config: Mapping[str, Any],
) -> tuple[ResizeShorterSide | ResizeTo, CenterCrop | None]:
    kind = str(config.get("image_processor_type", ""))
    size = _size(config.get("size"))
    crop_share = config.get("crop_pct")
    if kind.startswith("ConvNext"):
        side = size.get("shortest_edge") or size.get("height")
        if not side:
            raise _lacking(f"size {config.get('size')}")
        if side >= _LARGEST_CUT:
            return ResizeTo(height=side, width=side), None
        resize: ResizeShorterSide | ResizeTo = ResizeShorterSide(
            size=int(side / (crop_share or 224 / 256))
        )
        return resize, CenterCrop(height=side, width=side, rounding="down")
    scale = 1.0
    if kind.startswith("Levit"):
        scale = 256 / 224
    elif crop_share is not None:
        scale = 1 / crop_share
    if size.keys() == {"shortest_edge"}:
        resize = ResizeShorterSide(size=int(size["shortest_edge"] * scale))
    elif size.keys() == {"height", "width"} and scale == 1:
        resize = ResizeTo(height=size["height"], width=size["width"])
    else:
        raise _lacking(f"size {config.get('size')}")
    if not config.get("do_center_crop"):
        if isinstance(resize, ResizeShorterSide):
            raise _lacking("pictures keep their own shapes")
        return resize, None
    cut = _size(config.get("crop_size"))
    height = cut.get("height") or cut.get("shortest_edge")
    if not height:
        raise _lacking(f"crop_size {config.get('crop_size')}")
    return resize, CenterCrop(height=height, width=cut.get("width") or height, rounding="down")


def _size(value: object) -> dict[str, int]:
    """Sizes by name; old files have one number."""
    if isinstance(value, int):
        return {"shortest_edge": value}
    if isinstance(value, list | tuple) and len(value) == 2:
        return {"height": int(value[0]), "width": int(value[1])}
    if isinstance(value, Mapping):
        return {str(key): int(each) for key, each in value.items() if each is not None}
    return {}


def _channel_order(config: Mapping[str, Any], channels: int) -> Any:  # noqa: ANN401
    if channels == 1:
        return "L"
    return "BGR" if config.get("do_flip_channel_order") else "RGB"


def _normalization(config: Mapping[str, Any], channels: int) -> Normalization:
    """Mean and std of pixels from 0 to 1, whatever range the processor scales them to."""
    factor = float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1
    scale, offset = 255 * factor, 1.0 if config.get("rescale_offset") else 0.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    if config.get("do_normalize"):
        mean = _per_channel(config, "image_mean", channels)
        std = _per_channel(config, "image_std", channels)
    # Keras's EfficientNet divides by the standard deviation twice.
    twice = std if config.get("include_top") and "rescale_offset" in config else (1.0,) * channels
    return Normalization(
        mean=tuple((each + offset) / scale for each in mean),
        std=tuple(one * again / scale for one, again in zip(std, twice, strict=True)),
    )


def _per_channel(config: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    value = config.get(key)
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(values) == 1 or len(set(values)) == 1:
        values = values[:1] * channels
    if len(values) != channels or not all(isinstance(each, int | float) for each in values):
        raise _lacking(f"{key} {value} for {channels} channels")
    return tuple(float(each) for each in values)


def _lacking(what: str) -> SourceError:
    return SourceError(
        f"the folder's preprocessor_config.json prepares pictures in a way that convd lacks "
        f"({what}): write a net.py whose build() returns the network, and give net.py:build with "
        "--resize, --crop, --mean and --std"
    )
