"""Classifiers of transformers: a folder that `save_pretrained` wrote, or a name on the hub."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convd.artifact.manifest import Fact
from convd.export.errors import SourceError
from convd.export.graph.network_output import Activation
from convd.export.sources.image_processor import read_image_processor
from convd.export.sources.zoo import Recipe, ZooNetwork, ZooRequest, distinct, first_line
from convd.models.installed_library import fetch_from_hub, import_library, quieted

_UNNAMED = re.compile(r"LABEL_\d+")
PROCESSOR = "preprocessor_config.json"
"""The file in which transformers keeps what it does to a picture."""
_SHOWN = 5


def library_of_folder(path: Path) -> str | None:
    """Which library's network a folder holds, by its `config.json`.

    Returns:
        The source that it stands for, such as `hf:FOLDER`; None where it is of neither.
    """
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    if "architecture" in config:
        return f"timm:local-dir:{path}"
    return f"hf:{path}" if {"model_type", "architectures"} & config.keys() else None


def transformers_network(spec: str, request: ZooRequest) -> ZooNetwork:
    """Build a classifier of transformers.

    Args:
        spec: A folder, or `OWNER/NAME` on the Hugging Face hub.
        request: What else is asked.

    Raises:
        SourceError: transformers is not installed, the folder is not a classifier's, or its
            processor does something that convd lacks.
    """
    transformers = import_library("transformers")
    quieted("transformers")
    transformers.utils.logging.disable_progress_bar()
    folder = Path(spec) if Path(spec).is_dir() else fetch_from_hub(spec)
    network = _load(transformers, folder, request)
    config = network.config
    channels = request.channels or int(getattr(config, "num_channels", 3))
    if channels not in (1, 3):
        raise SourceError(f"{folder} takes pictures of {channels} channels: convd has 1 or 3")
    labels = names_of_labels(config.id2label)
    if labels is not None and request.outputs not in (None, len(labels)):
        labels = None
    preprocessing = normalization = recipe = None
    if (folder / PROCESSOR).is_file():
        settings, recipe = read_processor(folder)
        preprocessing, normalization = read_image_processor(settings, channels)
    facts = [
        Fact(subject="network", value=str(name), origin="config.json")
        for name in getattr(config, "architectures", None) or []
    ]
    return ZooNetwork(
        network.eval(),
        labels,
        preprocessing,
        normalization,
        "the folder" if Path(spec).is_dir() else spec,
        recipe,
        False,
        tuple(facts),
        _activation(config),
    )


def _load(transformers: Any, folder: Path, request: ZooRequest) -> Any:  # noqa: ANN401
    auto = transformers.AutoModelForImageClassification
    try:
        if request.weights is not None:
            config = transformers.AutoConfig.from_pretrained(folder)
            if request.outputs is not None:
                config.num_labels = request.outputs
            return auto.from_config(config)
        network, found = auto.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, **request.options
        )
    # The library reads files of many kinds: whatever fails there has a class of its own.
    except Exception as error:
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = "its network is Python code in the folder, which convd does not run"
        raise SourceError(f"transformers cannot read {folder}: {reason}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise SourceError(
            f"{folder} has no weights for {', '.join(missing[:_SHOWN])}{more}, so the answers "
            "would be random: give the folder that was saved after the classifier was trained"
        )
    return network


class ImageProcessor(NamedTuple):
    """What a folder's processor does to a picture: its settings, and its own code."""

    settings: dict[str, Any]
    recipe: Recipe


def read_processor(folder: Path) -> ImageProcessor:
    """Read a folder's image processor, with Pillow's arithmetic: convd's own, and training's.

    Raises:
        LibraryError: transformers is not installed.
        SourceError: It cannot read the folder.
    """
    transformers = import_library("transformers")
    quieted("transformers")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    # As above.
    except Exception as error:
        raise SourceError(
            f"transformers cannot read {folder / PROCESSOR}: {first_line(error)}"
        ) from error
    settings = {"image_processor_type": type(processor).__name__, **processor.to_dict()}
    return ImageProcessor(settings, _recipe(processor))


def _recipe(processor: Any) -> Recipe:  # noqa: ANN401
    def prepare(picture: Image.Image) -> Tensor:
        (pixels,) = processor(picture, return_tensors="np")["pixel_values"]
        return torch.from_numpy(np.asarray(pixels, np.float32))

    return prepare


def names_of_labels(names: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Class names by index; None where they are only numbers, or some are missing.

    Raises:
        ValueError: An index is not a number.
    """
    by_index = {int(index): str(name) for index, name in names.items()}
    if sorted(by_index) != list(range(len(by_index))):
        return None
    if all(map(_UNNAMED.fullmatch, by_index.values())):
        return None
    return distinct([by_index[index] for index in range(len(by_index))])


def _activation(config: Any) -> Activation:  # noqa: ANN401
    """What the kind of problem that it was trained on says of its outputs."""
    kind = getattr(config, "problem_type", None)
    if kind == "regression":
        raise SourceError("the network was trained for regression: it gives no classes")
    return "sigmoid" if kind == "multi_label_classification" else "softmax"
