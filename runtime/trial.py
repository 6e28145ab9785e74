"""A bound for the runs of a network that nobody knows yet: some never end."""

import threading

import onnxruntime as ort


class Trial:
    """Ends the runs of a session when its time is over.

    ONNX Runtime looks at the flag between two operators, in the bodies of loops too.

    Args:
        seconds: How long all runs of the trial may take together, with what is between them.

    Attributes:
        run_options: What the runs have to be given.
        is_over: Whether the time is over, so that runs fail.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self.run_options = ort.RunOptions()
        self._timer = threading.Timer(seconds, self._end_runs)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        """Let runs take as long as they like."""
        self._timer.cancel()

    def _end_runs(self) -> None:
        self.is_over = True
        self.run_options.terminate = True
