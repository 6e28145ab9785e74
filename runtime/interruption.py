"""Ends a run of a network that has become less important than what arrived meanwhile."""

import onnxruntime as ort


class InterruptedRunError(Exception):
    """A run was interrupted; nothing is wrong with the network."""


class Interruption:
    """Ends one run from another thread.

    ONNX Runtime looks at the flag between two operators; a provider that runs the whole network as
    one operator finishes it.

    Attributes:
        run_options: What the run has to be given.
        is_set: Whether the run was told to end.
    """

    def __init__(self) -> None:
        self.is_set = False
        self.run_options = ort.RunOptions()

    def set(self) -> None:
        """End the run; one that has not begun ends at once."""
        self.is_set = True
        self.run_options.terminate = True
