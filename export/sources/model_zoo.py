"""Networks of torchvision and timm, with the labels and preprocessing of their weights."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from PIL import Image
from torch import Tensor, nn

from convd.artifact.manifest import Fact, Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.export.errors import SourceError
from convd.models.registry import Options

RANDOM = "random"
"""Names random weights, to try a network out or to fill it from a file."""

Recipe = Callable[[Image.Image], Tensor]
"""From a picture to float32 `[channels, height, width]`, by the library's own code."""

_SWITCHES = {"googlenet": "transform_input", "inception_v3": "transform_input"}
"""What changes the answers of torchvision's networks and does not stand in their weights."""


class ZooNetwork(NamedTuple):
    """A network and what its library knows of it.

    Attributes:
        network: The network.
        labels: Class names of the weights; None where the classes are others.
        preprocessing: The recipe of the weights.
        normalization: Likewise.
        origin: Which weights that is, in words.
        recipe: The library's own code for that.
        is_random: Whether the library gave no weights.
        facts: What else was taken for granted.
    """

    network: nn.Module
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    normalization: Normalization
    origin: str
    recipe: Recipe
    is_random: bool
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class ZooRequest:
    """What is asked of a library.

    Attributes:
        outputs: Number of outputs of a network that is filled from a file or left random; None
            takes the library's.
        channels: Channels of the pictures; None takes the library's.
        recipe: The weights whose recipe is taken; None takes those that are named, or the default.
        weights: The file that the network will be filled from; nothing is downloaded then.
        options: Options of the network, as its library takes them.
    """

    outputs: int | None = None
    channels: int | None = None
    recipe: str | None = None
    weights: Path | None = None
    options: Options = field(default_factory=dict)


def torchvision_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a classification network of torchvision.

    Args:
        spec: `NAME`, `NAME:WEIGHTS` or `NAME:random`; without weights, the library's default.
        request: What else is asked.

    Raises:
        SourceError: torchvision is not installed, has no such network, weights or option, or a
            switch has to be set that weights in a file do not carry.
    """
    torchvision = _import("torchvision")
    name, _, weights_name = spec.partition(":")
    models = torchvision.models
    if name not in models.list_models(module=models):
        raise SourceError(f"torchvision has no classification network {name!r}")
    known = models.get_model_weights(name)
    for wanted in (weights_name, request.recipe):
        if wanted not in (None, "", RANDOM, *known.__members__):
            raise SourceError(
                f"torchvision has no weights {wanted!r} of {name}: use "
                f"{', '.join([*known.__members__, RANDOM])}"
            )
    chosen, origin = _recipe_of(known, weights_name, request)
    is_random = weights_name == RANDOM or request.weights is not None
    switch = _SWITCHES.get(name)
    if request.weights is not None and switch is not None and switch not in request.options:
        raise SourceError(
            f"torchvision's {name} has a switch that weights in a file do not carry: give --option "
            f"{switch}=true where training began with published weights (weights=...), or --option "
            f"{switch}=false where it began with weights=None"
        )
    options: dict[str, Any] = dict(request.options)
    if is_random and request.outputs is not None:
        options["num_classes"] = request.outputs
    if is_random and name in ("googlenet", "inception_v3"):
        options["init_weights"] = request.weights is None
        if request.weights is not None:
            options.setdefault("aux_logits", _has_auxiliaries(request.weights))
    categories = chosen.meta["categories"]
    labels = _distinct(categories) if request.outputs in (None, len(categories)) else None
    try:
        network = models.get_model(name, weights=None if is_random else chosen, **options)
    # The library downloads weights: whatever fails there has a class of its own.
    except Exception as error:
        raise SourceError(f"torchvision cannot build {spec}: {_first_line(error)}") from error
    preset = chosen.transforms()
    (crop,) = preset.crop_size
    (resize,) = preset.resize_size
    recipe = Preprocessing(
        resize=ResizeShorterSide(size=resize),
        center_crop=CenterCrop(height=crop, width=crop),
        interpolation=_interpolation(preset.interpolation.value),
    )
    normalization = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    facts = _option_facts(request)
    return ZooNetwork(
        network.eval(), labels, recipe, normalization, origin, preset, is_random, facts
    )


def timm_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a network of timm.

    Args:
        spec: `NAME` with the library's weights, such as `resnet10t.c3_in1k`, or `NAME:random`.
        request: What else is asked.

    Raises:
        SourceError: timm is not installed, or has no such network, weights or option.
    """
    timm = _import("timm")
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
        raise SourceError(f"timm cannot build {spec}: {_first_line(error)}") from error
    config = timm.data.resolve_model_data_config(network)
    labels = _timm_labels(timm, network)
    if labels is not None and request.outputs not in (None, len(labels)):
        labels = None
    tag = (getattr(network, "pretrained_cfg", None) or {}).get("tag") or "default"
    said = "--recipe" if request.recipe else "timm"
    facts = list(_option_facts(request))
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


def _recipe_of(known: Any, weights_name: str, request: ZooRequest) -> tuple[Any, str]:  # noqa: ANN401
    """The published weights whose recipe and labels are taken, and why these."""
    if request.recipe is not None:
        return known[request.recipe], f"{request.recipe}, by --recipe"
    if weights_name not in ("", RANDOM):
        return known[weights_name], weights_name
    others = [name for name in known.__members__ if known[name] is not known.DEFAULT]
    if request.weights is not None:
        digest = _digest(request.weights)
        for each in known:
            if f"-{digest[:8]}." in each.url:
                return each, f"{each.name}, which has this file's SHA-256"
    hint = f"; --recipe {others[0]} for another" if others and others[0] != "DEFAULT" else ""
    return known.DEFAULT, f"{known.DEFAULT.name}, torchvision's default{hint}"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return " "


def _has_auxiliaries(path: Path) -> bool:
    from convd.models.weights import load_weights

    return any(".aux" in f".{name.lower()}" for name in load_weights(path).tensors)


def _option_facts(request: ZooRequest) -> tuple[Fact, ...]:
    return tuple(
        Fact(subject=name, value=str(value), origin="--option")
        for name, value in request.options.items()
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
        interpolation=_interpolation(str(config["interpolation"])),
        channel_order="L" if channels == 1 else "RGB",
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _import(name: str) -> ModuleType:
    try:
        return __import__(name)
    # A torchvision of another build than torch raises RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise SourceError(
            f"{name} cannot be imported ({error}): install the build that fits torch, with pip "
            f"install {name}"
        ) from error
