"""Reading weights that were saved elsewhere, without executing anything."""

import argparse
import pathlib
import pickle
import types
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file

from convd.models.checkpoint import WEIGHTS_FILE, is_checkpoint
from convd.models.errors import InvalidCheckpointError, UnsafeCheckpointError
from convd.models.strangers import recognise
from convd.models.weight_sets import LoadedWeights, choose_weights

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")

_SHOWN_KEYS = 5
_HARMLESS: list[Any] = [
    # What trainers put beside the weights: figures and settings. None of these runs anything.
    np.dtype,
    np.ndarray,
    multiarray.scalar,
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    multiarray._reconstruct,
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    *(type(np.dtype(name)) for name in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"),
    argparse.Namespace,
    types.SimpleNamespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    set,
]


def load_weights(path: Path, *, key: str | None = None) -> LoadedWeights:
    """Read the tensors of a file, without ever executing what it holds.

    Args:
        path: `.safetensors`; or a state_dict saved by PyTorch (`.pt`, `.pth`, `.bin`, `.ckpt`),
            alone or under a key; or a folder that `convd train` wrote.
        key: Which of several sets of weights; None takes averaged ones (EMA) where there are any.

    Returns:
        Tensors on the CPU by name, without the usual prefixes.

    Raises:
        UnsafeCheckpointError: The file is a pickle of more than tensors.
        InvalidCheckpointError: The file is missing, damaged, holds no weights, or several sets.
    """
    if path.is_dir() and is_checkpoint(path):
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise InvalidCheckpointError(f"{path} is no file: give the file that holds the weights")
    stranger = recognise(path)
    if stranger is not None:
        if "run code" in stranger:
            raise UnsafeCheckpointError(f"{path} {stranger}")
        raise InvalidCheckpointError(f"{path} {stranger}")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            return choose_weights(load_file(path), str(path), key)
        except (OSError, SafetensorError) as error:
            raise InvalidCheckpointError(
                f"{path} is damaged ({error}): copy or download it again"
            ) from error
    if suffix not in PICKLED:
        raise InvalidCheckpointError(
            f"{path} is of no known kind: give .safetensors, {' or '.join(PICKLED)}"
        )
    return choose_weights(_load_pickle(path), str(path), key)


def _load_pickle(path: Path) -> object:
    try:
        with safe_globals():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UnsafeCheckpointError(
                f"{path} is a pickle of more than tensors, and loading it could execute code: "
                "where it was saved, write torch.save(network.state_dict(), FILE) or use "
                "safetensors, and give that file"
            ) from error
        raise InvalidCheckpointError(
            f"{path} is damaged or not a checkpoint of PyTorch: copy or download it again"
        ) from error
    # A damaged archive makes the reader raise nearly anything.
    except Exception as error:
        raise InvalidCheckpointError(
            f"{path} is damaged or no state_dict ({type(error).__name__}): copy or download it "
            "again, or save network.state_dict()"
        ) from error


def suffix_of_weights(path: Path) -> bool:
    """Whether a file's name is that of weights."""
    return path.suffix.lower() in (*PICKLED, ".safetensors")


def safe_globals() -> AbstractContextManager[None]:
    """Let PyTorch read what trainers put beside the weights; nothing of it runs."""
    allowed: AbstractContextManager[None] = torch.serialization.safe_globals(_HARMLESS)
    return allowed


def shown(names: list[str]) -> str:
    """A few names of many, for an error text."""
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + more
