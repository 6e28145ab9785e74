"""Sessions: a network loaded into ONNX Runtime on one execution provider."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime import openvino
from runtime.errors import SessionError
from runtime.providers import CUDA_NAME, OPENVINO_NAME, ExecutionProvider, why_missing

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Probabilities and logits, both float32 `[batch, classes]`."""

_LOG_ERRORS_ONLY = 3


class Session:
    """An artifact's network, ready to run.

    Args:
        model: Bytes of the ONNX file.
        provider: Where to run it.
        intra_op_threads: Threads for one inference; 0 for every core that this process may use.

    Raises:
        SessionError: The provider is not here, or cannot run this network.
    """

    def __init__(
        self, model: bytes, provider: ExecutionProvider, *, intra_op_threads: int = 0
    ) -> None:
        self.provider = provider
        self._session = open_session(model, provider, intra_op_threads=intra_op_threads)

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """Run the network.

        Args:
            images: uint8 `[batch, height, width, channels]`.

        Returns:
            Probabilities and logits, both float32 `[batch, classes]`.
        """
        probabilities, logits = self._session.run(["probabilities", "logits"], {"image": images})
        return probabilities, logits


def open_session(
    model: bytes, provider: ExecutionProvider, *, intra_op_threads: int = 0
) -> ort.InferenceSession:
    """Load any ONNX file as serving does, whatever its inputs and outputs are.

    Args:
        model: Bytes of the ONNX file.
        provider: Where to run it.
        intra_op_threads: Threads for one inference; 0 for every core that this process may use.

    Raises:
        SessionError: The provider is not here, or cannot run this network.
    """
    reason = why_missing(provider)
    if reason is not None:
        raise SessionError(f"{provider} cannot be used: {reason}")
    options = ort.SessionOptions()
    # ONNX Runtime counts the machine's cores; a container's share may be smaller.
    options.intra_op_num_threads = intra_op_threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    try:
        session = ort.InferenceSession(model, options, providers=_select(provider, options))
    # ONNX Runtime raises one class per status code, and plugins raise their own.
    except Exception as error:
        raise SessionError(f"{provider} cannot load the network: {_first_line(error)}") from error
    # A provider that fails to start is replaced by the CPU, with no more than a warning.
    if provider.name not in session.get_providers():
        raise SessionError(
            f"{provider} did not start, so ONNX Runtime would run on "
            f"{session.get_providers()[0]}: its device or driver is missing"
        )
    return session


def _select(provider: ExecutionProvider, options: ort.SessionOptions) -> list[Any]:
    if provider.name == OPENVINO_NAME:
        return openvino.configure(options, provider.precision)
    if provider.name == CUDA_NAME:
        # TensorFloat-32 keeps 10 bits of mantissa, which is not float32.
        return [(CUDA_NAME, {"use_tf32": "0"})]
    return [provider.name]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
