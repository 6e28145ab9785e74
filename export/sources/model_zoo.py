"""Networks of torchvision and timm, with the labels and preprocessing of their weights."""

import math
from collections import Counter
from types import ModuleType
from typing import Any, Literal, NamedTuple

from torch import nn

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.export.errors import SourceError

RANDOM = "random"
"""Names random weights, to try a network out or to fill it from a file."""


class ZooNetwork(NamedTuple):
    """A network and what its library knows of it."""

    network: nn.Module
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    normalization: Normalization


def torchvision_network(spec: str, *, num_classes: int | None = None) -> ZooNetwork:
    """Build a classification network of torchvision.

    Args:
        spec: `NAME`, `NAME:WEIGHTS` or `NAME:random`; without weights, the library's default.
        num_classes: Number of classes of a network with random weights; None takes the library's.

    Raises:
        SourceError: torchvision is not installed, or has no such network or weights.
    """
    torchvision = _import("torchvision")
    name, _, weights_name = spec.partition(":")
    models = torchvision.models
    if name not in models.list_models(module=models):
        raise SourceError(f"torchvision has no classification network {name!r}")
    known = models.get_model_weights(name)
    if weights_name in ("", RANDOM):
        weights = known.DEFAULT
    elif weights_name in known.__members__:
        weights = known[weights_name]
    else:
        raise SourceError(
            f"torchvision has no weights {weights_name!r} of {name}: use "
            f"{', '.join([*known.__members__, RANDOM])}"
        )
    labels: tuple[str, ...] | None = _distinct(weights.meta["categories"])
    try:
        if weights_name == RANDOM:
            options = {} if num_classes is None else {"num_classes": num_classes}
            network = models.get_model(name, weights=None, **options)
            labels = labels if num_classes in (None, len(weights.meta["categories"])) else None
        else:
            network = models.get_model(name, weights=weights)
    # The library downloads weights: whatever fails there has a class of its own.
    except Exception as error:
        raise SourceError(f"torchvision cannot build {spec}: {error}") from error
    preset = weights.transforms()
    (crop,) = preset.crop_size
    (resize,) = preset.resize_size
    recipe = Preprocessing(
        resize=ResizeShorterSide(size=resize),
        center_crop=CenterCrop(height=crop, width=crop),
        interpolation=_interpolation(preset.interpolation.value),
    )
    normalization = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    return ZooNetwork(network.eval(), labels, recipe, normalization)


def timm_network(spec: str, *, num_classes: int | None = None) -> ZooNetwork:
    """Build a network of timm.

    Args:
        spec: `NAME` with the library's weights, such as `resnet10t.c3_in1k`, or `NAME:random`.
        num_classes: Number of classes of a network with random weights; None takes the library's.

    Raises:
        SourceError: timm is not installed, or has no such network or weights.
    """
    timm = _import("timm")
    name, _, weights_name = spec.partition(":")
    if weights_name not in ("", RANDOM):
        raise SourceError(
            f"timm names weights with a dot: timm:{name}.{weights_name}; {RANDOM!r} stands for none"
        )
    if not timm.is_model(name):
        raise SourceError(f"timm has no network {name!r}")
    options = {} if num_classes is None or weights_name != RANDOM else {"num_classes": num_classes}
    try:
        network = timm.create_model(name, pretrained=weights_name != RANDOM, **options)
    # The library downloads weights: whatever fails there has a class of its own.
    except Exception as error:
        raise SourceError(f"timm cannot build {spec}: {error}") from error
    config = timm.data.resolve_model_data_config(network)
    return ZooNetwork(
        network.eval(),
        _timm_labels(timm, network),
        _timm_preprocessing(config),
        Normalization(mean=tuple(config["mean"]), std=tuple(config["std"])),
    )


def _timm_preprocessing(config: dict[str, Any]) -> Preprocessing:
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
        interpolation=_interpolation(str(config["interpolation"])),
    )


def _timm_labels(timm: ModuleType, network: nn.Module) -> tuple[str, ...] | None:
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = timm.data.ImageNetInfo(subset)
    return _distinct([info.index_to_description(index) for index in range(info.num_classes())])


def _distinct(labels: list[str]) -> tuple[str, ...]:
    """Number the labels that occur twice: ImageNet has two cranes, a bird and a machine."""
    counts = Counter(labels)
    return tuple(
        f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels)
    )


def _interpolation(name: str) -> Literal["bilinear", "bicubic"]:
    if name == "bilinear":
        return "bilinear"
    if name == "bicubic":
        return "bicubic"
    raise SourceError(f"pictures of this network are scaled with {name!r}, which convd lacks")


def _import(name: str) -> ModuleType:
    try:
        return __import__(name)
    # A torchvision of another build than torch raises RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise SourceError(
            f"{name} cannot be imported ({error}): install the build that fits torch, with pip "
            f"install {name}"
        ) from error
