"""Imports the libraries that networks come from, and fetches what they publish."""

import importlib
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

from convd.models.errors import LibraryError

_LIBRARIES_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width,"
    " int sampling_ratio, bool aligned) -> Tensor",
)
_HUB_FILES = ["config.json", "preprocessor_config.json", "*.safetensors", "pytorch_model*.bin"]

_declared: list[torch.library.Library] = []


def import_library(name: str) -> ModuleType:
    """Import torchvision, timm or transformers.

    Raises:
        LibraryError: It is not installed, or does not fit torch.
    """
    _import_torchvision()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name == name:
            raise LibraryError(f"{name} is not installed: pip install {name}") from error
        raise LibraryError(f"{name} cannot be imported ({error}): pip install -U {name}") from error
    # A torchvision of another build than torch raises RuntimeError.
    except RuntimeError as error:
        raise LibraryError(
            f"{name} cannot be imported ({error}): install the builds of torch and torchvision "
            "that fit each other"
        ) from error


def fetch_from_hub(name: str) -> Path:
    """Download a network from the Hugging Face hub, or find it in the cache.

    Args:
        name: `OWNER/NAME`, with `@REVISION` where it is not the newest.

    Returns:
        The folder with the files.

    Raises:
        LibraryError: There is no such network, or no network connection.
    """
    hub = import_library("huggingface_hub")
    repository, _, revision = name.partition("@")
    try:
        folder = hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=_HUB_FILES
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Got: ")
        raise LibraryError(
            f"{name} is not a folder here, and the Hugging Face hub does not give it ({reason}): "
            f"check the name, or run 'hf download {name} --local-dir FOLDER' where there is a "
            "network and give FOLDER"
        ) from error
    return Path(folder)


def quieted(name: str) -> None:
    """Keep what a library logs of its own affairs from the user."""
    logging.getLogger(name).setLevel(logging.ERROR)


def _import_torchvision() -> None:
    """Import torchvision without its compiled operators where they do not fit torch.

    The package index has a torchvision built for CUDA, which does not find its operators next to a
    CPU build of torch. Classifiers need none of them, but importing the package needs their
    declarations.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            return
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for declaration in _LIBRARIES_OPERATORS:
            library.define(declaration)  # type: ignore[no-untyped-call]
        _declared.append(library)
        for module in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("torchvision")
    except ImportError:
        return
