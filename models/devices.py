"""The device to train on, and its precision."""

import contextlib
from typing import Literal

import torch

from convd.models.errors import TrainingError


def select_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on. On a GPU, only deterministic operators are used from then on.

    Raises:
        TrainingError: A GPU was requested and none is usable.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError("no usable GPU was found: train with --device cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


class Precision:
    """Mixed precision: which operators compute in 16 bits.

    With float16, the loss is scaled so that small gradients do not vanish (Micikevicius et al.,
    "Mixed Precision Training", 2018); bfloat16 needs no scaling.

    Args:
        device: The device that computes.
        mixed: Whether convolutions and matrix products compute in 16 bits; None does so on a GPU.
    """

    def __init__(self, device: torch.device, mixed: bool | None) -> None:
        self.mixed = device.type == "cuda" if mixed is None else mixed
        short = device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self._device = device
        self._dtype = torch.float16 if short else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.mixed and short)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which operators choose their precision."""
        return torch.autocast(self._device.type, self._dtype, enabled=self.mixed)
