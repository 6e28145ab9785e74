"""Reading weights that were saved elsewhere, without executing anything."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from convd.models.checkpoint import WEIGHTS_FILE, is_checkpoint
from convd.models.errors import InvalidCheckpointError, UnsafeCheckpointError
from convd.models.registry import Weights

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What data-parallel training, compilation and wrapping modules put before every name."""

_SHOWN_KEYS = 5


def load_weights(path: Path) -> Weights:
    """Read the tensors of a file, without ever executing what it holds.

    Args:
        path: `.safetensors`; or a state_dict saved by PyTorch (`.pt`, `.pth`, `.bin`, `.ckpt`),
            alone or under one of the usual keys; or a folder that `convd train` wrote.

    Returns:
        Tensors on the CPU by name, without the usual prefixes.

    Raises:
        UnsafeCheckpointError: The file is a pickle of more than tensors.
        InvalidCheckpointError: The file is missing, damaged, or holds no weights.
    """
    if path.is_dir() and is_checkpoint(path):
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise InvalidCheckpointError(f"{path} is no file: give the file that holds the weights")
    if path.suffix == ".safetensors":
        try:
            return _without_prefixes(load_file(path))
        except (OSError, SafetensorError) as error:
            raise InvalidCheckpointError(
                f"{path} is damaged ({error}): copy or download it again"
            ) from error
    if path.suffix not in PICKLED:
        raise InvalidCheckpointError(
            f"{path} is of no known kind: give .safetensors, {' or '.join(PICKLED)}"
        )
    return _without_prefixes(_unwrapped(_load_pickle(path), path))


def _load_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UnsafeCheckpointError(
                f"{path} is a pickle of more than tensors, and loading it could execute code: "
                "where it was saved, write torch.save(network.state_dict(), FILE) or use "
                "safetensors, and give that file"
            ) from error
        raise InvalidCheckpointError(
            f"{path} is damaged or no checkpoint of PyTorch: copy or download it again"
        ) from error
    # A damaged archive makes the reader raise nearly anything.
    except Exception as error:
        raise InvalidCheckpointError(
            f"{path} is damaged or no state_dict ({type(error).__name__}): copy or download it "
            "again, or save network.state_dict()"
        ) from error


def _unwrapped(loaded: object, path: Path) -> Weights:
    while isinstance(loaded, Mapping):
        inner = next((name for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
        if inner is None:
            break
        loaded = loaded[inner]
    if not isinstance(loaded, Mapping) or not loaded:
        raise InvalidCheckpointError(f"{path} holds no state_dict: save network.state_dict()")
    strangers = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if strangers:
        raise InvalidCheckpointError(
            f"{path} holds {shown(strangers)} beside or in place of weights, under none of the "
            f"keys {', '.join(WRAPPERS)}: save network.state_dict()"
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _without_prefixes(weights: Weights) -> Weights:
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            shorter = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            return _without_prefixes(shorter)
    return weights


def shown(names: list[str]) -> str:
    """A few names of many, for an error text."""
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + more
