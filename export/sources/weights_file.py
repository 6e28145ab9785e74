"""Weights from a file, into a network that was built without them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from export.errors import SourceError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIX = "module."


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network from `.safetensors`, `.pt` or `.pth`; no code in the file is ever run.

    Args:
        network: The network, in the state in which the weights were saved.
        path: The file.

    Raises:
        SourceError: The file is missing, damaged, would run code, or is of another network.
    """
    tensors = _read(path)
    if tensors and all(name.startswith(_PREFIX) for name in tensors):
        # What DataParallel leaves before every name.
        tensors = {name.removeprefix(_PREFIX): each for name, each in tensors.items()}
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:300]
        raise SourceError(f"the weights in {path} are of another network: {problem}") from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    # A damaged or hostile file makes the readers raise nearly anything.
    except (SafetensorError, Exception) as error:
        raise SourceError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0]}): save "
            "network.state_dict() with torch.save or safetensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise SourceError(f"{path} holds no weights: save network.state_dict() into it")
    return found
