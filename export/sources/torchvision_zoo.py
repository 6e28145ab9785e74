"""Networks of torchvision, with the labels and preprocessing of their weights."""

import hashlib
from pathlib import Path
from typing import Any

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide
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
from convd.models.installed_library import import_library
from convd.models.weights import load_weights

_SWITCHES = {"googlenet": "transform_input", "inception_v3": "transform_input"}
"""What changes the answers of torchvision's networks and does not stand in their weights."""


def torchvision_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a classification network of torchvision.

    Args:
        spec: `NAME`, `NAME:WEIGHTS` or `NAME:random`; without weights, the library's default.
        request: What else is asked.

    Raises:
        SourceError: torchvision is not installed, has no such network, weights or option, or a
            switch has to be set that weights in a file do not carry.
    """
    torchvision = import_library("torchvision")
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
    labels = distinct(categories) if request.outputs in (None, len(categories)) else None
    try:
        network = models.get_model(name, weights=None if is_random else chosen, **options)
    # The library downloads weights: whatever fails there has a class of its own.
    except Exception as error:
        raise SourceError(f"torchvision cannot build {spec}: {first_line(error)}") from error
    preset = chosen.transforms()
    (crop,) = preset.crop_size
    (resize,) = preset.resize_size
    recipe = Preprocessing(
        resize=ResizeShorterSide(size=resize),
        center_crop=CenterCrop(height=crop, width=crop),
        interpolation=interpolation(preset.interpolation.value),
    )
    normalization = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    facts = option_facts(request)
    return ZooNetwork(
        network.eval(), labels, recipe, normalization, origin, preset, is_random, facts
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
    return any(".aux" in f".{name.lower()}" for name in load_weights(path).tensors)
