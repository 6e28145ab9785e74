"""Execution providers: what ONNX Runtime can run a network on, and the session that does it."""

import os
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from artifact.manifest import Precision


@dataclass(frozen=True)
class ExecutionProvider:
    """One way to run a network on this machine.

    Attributes:
        name: ONNX Runtime's name of it.
        precision: The precision in which it computes a float32 network, which decides how far its
            answers may be from the golden ones.
    """

    name: str
    precision: Precision


CPU = ExecutionProvider("CPUExecutionProvider", "float32")


class Session:
    """A network loaded into ONNX Runtime.

    Args:
        model: Bytes of the ONNX file.
        provider: Where to run it.
        intra_op_threads: Threads for one inference; 0 for every core that this process may use.
    """

    def __init__(
        self, model: bytes, provider: ExecutionProvider, *, intra_op_threads: int = 0
    ) -> None:
        options = ort.SessionOptions()
        # ONNX Runtime counts the machine's cores; a container's share may be smaller.
        options.intra_op_num_threads = intra_op_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        self.provider = provider
        self._session = ort.InferenceSession(model, options, providers=[provider.name])

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network.

        Args:
            images: uint8 `[batch, height, width, channels]`.

        Returns:
            Probabilities and logits, both float32 `[batch, classes]`.
        """
        probabilities, logits = self._session.run(["probabilities", "logits"], {"image": images})
        return probabilities, logits
