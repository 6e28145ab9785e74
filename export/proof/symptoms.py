"""What an error of a network means where its text tells: one cause, and what mends it."""

import re

_GPU = re.compile(r"CUDA|cuda|NVIDIA|same device")
_PRECISION = re.compile(
    r"Half|BFloat16|bfloat16|Double|same dtype|Input type \(.*\) and (?:bias|weight) type"
)
_ARGUMENTS = re.compile(r"forward\(\) missing \d+ required .*?: (.*)$")
_NOT_A_TENSOR = re.compile(
    r"too many indices for tensor|must be tuple of Tensors|only integers, slices|"
    r"new\(\): invalid data type 'str'|'Tensor' object has no attribute"
)


def known_cause(error: BaseException, said: str, line: str | None) -> str | None:
    """Name what an error means, where its text tells.

    Args:
        error: The error.
        said: The first line of its text.
        line: The line of the user's code that it passed through.

    Returns:
        A sentence; None where the text does not tell.
    """
    where = f" at {line}" if line else ""
    missing = _ARGUMENTS.search(said) if isinstance(error, TypeError) else None
    if missing is not None:
        return (
            f"forward takes {missing[1]} besides the picture, but a server sends pictures alone: "
            "give a function that returns a module whose forward(self, x) fills in the rest"
        )
    if _GPU.search(said):
        return (
            f"the network asks for a GPU{where}, but is run on the CPU here: leave .cuda() and "
            "device='cuda' out of forward, and write device=x.device"
        )
    if isinstance(error, RuntimeError) and _PRECISION.search(said):
        return (
            f"the network mixes precisions{where} ({said}), and convd computes in float32: leave "
            ".half(), .bfloat16(), .double() and dtype=... out of forward"
        )
    if isinstance(error, TypeError | IndexError | AttributeError) and _NOT_A_TENSOR.search(said):
        return (
            f"forward does not take a tensor [batch, channels, height, width]{where} ({said}): "
            "give a function that returns a module whose forward(self, x) does"
        )
    return None
