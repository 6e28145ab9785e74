"""Where a network is trained, and how exactly it computes there."""

import contextlib
from typing import Literal

import torch

from convd.models.errors import TrainingError


def select_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on; on a GPU, operators are then chosen to give the same result each run.

    Raises:
        TrainingError: A GPU is asked for, and there is none that works.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError("no GPU can be used here: train with --device cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


class Precision:
    """What is computed in 16 bits.

    With float16 the loss is scaled so that small gradients do not vanish (Micikevicius et al.,
    "Mixed Precision Training", 2018); bfloat16 needs no scaling.

    Args:
        device: Where it is computed.
        mixed: Whether convolutions and matrix products compute in 16 bits; None does so on a GPU.
    """

    def __init__(self, device: torch.device, mixed: bool | None) -> None:
        self.mixed = device.type == "cuda" if mixed is None else mixed
        short = device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self._device = device
        self._dtype = torch.float16 if short else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.mixed and short)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Within this, operators choose their precision."""
        return torch.autocast(self._device.type, self._dtype, enabled=self.mixed)
