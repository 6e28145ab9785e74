"""How many threads a training step is worth."""

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

FLOPS_PER_THREAD = 1e9
"""Least work of a step for which one more thread is started.

The threads meet after every operator. With less work between two meetings they mostly wait, and on
a busy machine, where one of them may not be running, all wait for that one.
"""

_FORWARD_AND_BACKWARD = 3


def step_flops(network: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> int:
    """Floating-point operations of one training step; the network is not run.

    Args:
        network: The network.
        image_shape: Height, width and channels of its input.
        batch_size: Pictures per step.
    """
    height, width, channels = image_shape
    shadow = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.zeros(1, channels, height, width, device="meta"))
    forward: int = counter.get_total_flops()
    return forward * batch_size * _FORWARD_AND_BACKWARD


def threads_for(flops: int, available: int) -> int:
    """Threads for steps of so many operations, at least 1 and at most those available.

    The result depends on the work alone and not on how busy the machine is: another number of
    threads rounds sums differently, and equal settings have to give equal weights.
    """
    return max(1, min(available, math.ceil(flops / FLOPS_PER_THREAD)))


@contextlib.contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let PyTorch's operators use so many threads, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
