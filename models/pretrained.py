"""The weights that fine-tuning starts from: a file, a checkpoint, or a library's by their name."""

import difflib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from convd.artifact.manifest import Normalization
from convd.models.checkpoint import CheckpointDescription, is_checkpoint, read_description
from convd.models.errors import InvalidCheckpointError, LibraryError
from convd.models.installed_library import fetch_from_hub, import_library
from convd.models.registry import Weights
from convd.models.weights import load_weights

_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


class PretrainedWeights(NamedTuple):
    """Weights and what is known of them.

    Attributes:
        tensors: Tensors on the CPU by the names that their library gives them.
        origin: Where they come from, in words.
        normalization: Of the pictures that they were trained on; None where it is not known.
        description: All of it, where convd trained them.
    """

    tensors: Weights
    origin: str
    normalization: Normalization | None = None
    description: CheckpointDescription | None = None


def find_pretrained(spec: str) -> PretrainedWeights:
    """Read weights, or download them.

    Args:
        spec: A folder that `convd train` wrote, a file that `load_weights` reads,
            `torchvision:NAME[:WEIGHTS]`, `timm:NAME`, or `hf:NAME` or `hf:FOLDER` of the Hugging
            Face Hub, whose repositories of transformers and of timm are alike here.

    Raises:
        CheckpointError: The weights cannot be read.
        LibraryError: The library is not installed or lacks the name, or the download failed.
    """
    kind, _, name = spec.partition(":")
    source = _SOURCES.get(kind)
    if source is not None and name:
        return source(name)
    path = Path(spec).expanduser()
    if is_checkpoint(path):
        description = read_description(path)
        tensors = load_weights(path).tensors
        return PretrainedWeights(tensors, spec, description.normalization, description)
    if (path / "config.json").is_file():
        return _from_folder(path, spec)
    loaded = load_weights(path)
    return PretrainedWeights(loaded.tensors, f"{spec} ({loaded.choice})" if loaded.choice else spec)


def _from_torchvision(name: str) -> PretrainedWeights:
    models = import_library("torchvision").models
    name, _, weights_name = name.partition(":")
    _check_name(name, models.list_models(module=models), "torchvision")
    known = models.get_model_weights(name)
    if weights_name:
        _check_name(weights_name, known.__members__, f"torchvision's {name}")
    chosen = known[weights_name] if weights_name else known.DEFAULT
    try:
        tensors = chosen.get_state_dict(progress=False, check_hash=True)
    # The library raises what its download raises; a wrong hash is a RuntimeError.
    except Exception as error:
        raise LibraryError(
            f"the weights of torchvision:{name} cannot be downloaded ({_reason(error)}): download "
            f"{chosen.url} where there is a network, and give that file with --init"
        ) from error
    preset = chosen.transforms()
    normalization = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    return PretrainedWeights(tensors, f"torchvision:{name} ({chosen.name})", normalization)


def _from_timm(name: str) -> PretrainedWeights:
    for prefix in ("hf-hub:", "hf_hub:", "local-dir:"):
        if name.startswith(prefix):
            return _from_hub(name.removeprefix(prefix))
    timm = import_library("timm")
    architecture = name.partition(".")[0]
    _check_name(architecture, timm.list_models(), "timm")
    if name != architecture:
        _check_name(name, timm.list_pretrained(f"{architecture}.*"), "timm")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise LibraryError(f"timm has no weights of {name!r} on the Hugging Face Hub")
    return _from_hub(config.hf_hub_id)._replace(origin=f"timm:{name} ({config.hf_hub_id})")


def _from_hub(name: str) -> PretrainedWeights:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder, f"hf:{name}")
    return _from_folder(fetch_from_hub(name), f"hf:{name}")


def _from_folder(folder: Path, origin: str) -> PretrainedWeights:
    """Read a repository of the Hub that lies on this machine."""
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            tensors = load_weights(folder / name).tensors
            return PretrainedWeights(tensors, origin, _hub_normalization(folder))
    raise InvalidCheckpointError(
        f"{folder} has no {' or '.join(_WEIGHTS_FILES)}: give the folder that holds one, or the "
        "file itself"
    )


def _hub_normalization(folder: Path) -> Normalization | None:
    """What transformers' or timm's configuration says of it."""
    for file, mean, std in (
        ("preprocessor_config.json", "image_mean", "image_std"),
        ("config.json", "mean", "std"),
    ):
        try:
            config = json.loads((folder / file).read_text(encoding="utf-8"))
            config = config.get("pretrained_cfg", config)
            return Normalization(mean=tuple(config[mean]), std=tuple(config[std]))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, ValidationError):
            continue
    return None


_SOURCES: dict[str, Callable[[str], PretrainedWeights]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
    "hf": _from_hub,
}


def _check_name(name: str, known: Iterable[Any], where: str) -> None:
    names = [str(each) for each in known]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise LibraryError(f"{where} has no {name!r}: try {' or '.join(near)}")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
