"""Networks of timm, with the labels and preprocessing of their weights."""

import math
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
    import_library,
    interpolation,
    option_facts,
)


def timm_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a network of timm.

    Args:
        spec: `NAME` with the library's weights, such as `resnet10t.c3_in1k`, or `NAME:random`.
        request: What else is asked.

    Raises:
        SourceError: timm is not installed, or has no such network, weights or option.
    """
    timm = import_library("timm")
    name, _, weights_name = spec.partition(":")
    if weights_name not in ("", RANDOM):
        raise SourceError(
            f"timm names weights with a dot: timm:{name}.{weights_name}; {RANDOM!r} stands for none"
        )
    if request.recipe is not None:
        name = f"{name.partition('.')[0]}.{request.recipe}"
    if not timm.is_model(name):
        raise SourceError(f"timm has no network {name!r}")
    is_random = weights_name == RANDOM or request.weights is not None
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
    labels = _timm_labels(timm, network)
    if labels is not None and request.outputs not in (None, len(labels)):
        labels = None
    tag = (getattr(network, "pretrained_cfg", None) or {}).get("tag") or "default"
    said = "--recipe" if request.recipe else "timm"
    facts = list(option_facts(request))
    pool = getattr(getattr(network, "global_pool", None), "pool_type", None)
    if pool and "global_pool" not in request.options:
        facts.append(
            Fact(
                subject="pooling",
                value=str(pool),
                origin="timm's default; another one by --option global_pool=max",
            )
        )
    channels = 1 if request.channels == 1 else 3
    return ZooNetwork(
        network.eval(),
        labels,
        _timm_preprocessing(config, channels),
        Normalization(mean=tuple(config["mean"])[:channels], std=tuple(config["std"])[:channels]),
        f"{name} ({tag}), by {said}",
        timm.data.create_transform(**config, is_training=False),
        is_random,
        tuple(facts),
    )


def _timm_preprocessing(config: dict[str, Any], channels: int) -> Preprocessing:
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


def _timm_labels(timm: ModuleType, network: nn.Module) -> tuple[str, ...] | None:
    subset = timm.data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = timm.data.ImageNetInfo(subset)
    return distinct([info.index_to_description(index) for index in range(info.num_classes())])
