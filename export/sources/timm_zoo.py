"""Networks of timm, with the labels and preprocessing of their weights."""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from convd.artifact.manifest import Fact, Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.export.errors import SourceError
from convd.export.sources.zoo import (
    RANDOM,
    ZooNetwork,
    ZooRequest,
    distinct,
    first_line,
    interpolation,
    option_facts,
)
from convd.models.installed_library import fetch_from_hub, import_library

_FOLDER = "local-dir:"
_HUB = "hf-hub:"


def timm_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a network of timm.

    Args:
        spec: `NAME` with the library's weights, such as `resnet10t.c3_in1k`, or `NAME:random`, or a
            saved network in timm's own spelling: `local-dir:FOLDER` or `hf-hub:NAME`.
        request: What else is asked.

    Raises:
        SourceError: timm is not installed, or has no such network, weights or option.
    """
    timm = import_library("timm")
    if spec.startswith(_HUB):
        spec = f"{_FOLDER}{fetch_from_hub(spec.removeprefix(_HUB))}"
    is_folder = spec.startswith(_FOLDER)
    name = spec if is_folder else _registered_name(timm, spec, request.recipe)
    is_random = spec.endswith(f":{RANDOM}") or request.weights is not None
    options: dict[str, Any] = dict(request.options)
    if is_random and request.outputs is not None:
        options["num_classes"] = request.outputs
    if request.channels is not None:
        options["in_chans"] = request.channels
    try:
        network = timm.create_model(name, pretrained=not is_random, **options)
    # The library downloads weights: whatever fails there has a class of its own.
    except Exception as error:
        raise SourceError(f"timm cannot build {spec}: {first_line(error)}") from error
    config = timm.data.resolve_model_data_config(network)
    labels = _labels(timm, network)
    if labels is not None and request.outputs not in (None, len(labels)):
        labels = None
    channels = request.channels or int(config["input_size"][0])
    mean, std = (_of_channels(config[key], channels) for key in ("mean", "std"))
    config |= {"input_size": (channels, *config["input_size"][1:]), "mean": mean, "std": std}
    return ZooNetwork(
        network.eval(),
        labels,
        timm_preprocessing(config, channels),
        Normalization(mean=mean, std=std),
        _origin(network, name, request),
        timm.data.create_transform(**config, is_training=False),
        is_random,
        (*option_facts(request), *_pooling(network, request)),
    )


def _registered_name(timm: ModuleType, spec: str, recipe: str | None) -> str:
    """The name in timm's registry."""
    name, _, weights_name = spec.partition(":")
    if weights_name not in ("", RANDOM):
        raise SourceError(
            f"timm names weights with a dot: timm:{name}.{weights_name}; {RANDOM!r} stands for "
            f"none, {_FOLDER}FOLDER and {_HUB}NAME for saved networks"
        )
    if recipe is not None:
        name = f"{name.partition('.')[0]}.{recipe}"
    if not timm.is_model(name):
        raise SourceError(f"timm has no network {name!r}")
    return name


def _of_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value for each channel; timm takes their average where there are others."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def _origin(network: nn.Module, name: str, request: ZooRequest) -> str:
    if name.startswith(_FOLDER):
        return "the folder"
    tag = (getattr(network, "pretrained_cfg", None) or {}).get("tag") or "default"
    return f"{name} ({tag}), by {'--recipe' if request.recipe else 'timm'}"


def _pooling(network: nn.Module, request: ZooRequest) -> list[Fact]:
    pool = getattr(getattr(network, "global_pool", None), "pool_type", None)
    if not pool or "global_pool" in request.options:
        return []
    origin = "timm's default; another one by --option global_pool=max"
    return [Fact(subject="pooling", value=str(pool), origin=origin)]


def timm_preprocessing(config: Mapping[str, Any], channels: int) -> Preprocessing:
    """The recipe that timm's settings stand for.

    Args:
        config: `input_size`, `crop_pct`, `crop_mode` and `interpolation`.
        channels: 1 or 3.

    Raises:
        SourceError: convd lacks it.
    """
    _, height, width = config["input_size"]
    crop_share = config["crop_pct"]
    if config["crop_mode"] == "squash":
        resize: ResizeShorterSide | ResizeTo = ResizeTo(
            height=math.floor(height / crop_share), width=math.floor(width / crop_share)
        )
    elif config["crop_mode"] == "center" and height == width:
        resize = ResizeShorterSide(size=math.floor(height / crop_share))
    else:
        raise SourceError(
            f"timm prepares the pictures of this network in a way that convd does not have (crop "
            f"mode {config['crop_mode']}, {height} x {width}): export it as file.py:build"
        )
    return Preprocessing(
        resize=resize,
        center_crop=CenterCrop(height=height, width=width),
        interpolation=interpolation(str(config["interpolation"])),
        channel_order="L" if channels == 1 else "RGB",
    )


def _labels(timm: ModuleType, network: nn.Module) -> tuple[str, ...] | None:
    names = (getattr(network, "pretrained_cfg", None) or {}).get("label_names")
    if names:
        return distinct([str(name) for name in names])
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = timm.data.ImageNetInfo(subset)
    return distinct([info.index_to_description(index) for index in range(info.num_classes())])
