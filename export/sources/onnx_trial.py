"""Tries whether a foreign ONNX graph answers a batch."""

import re

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, helper

from convd.export.graph.network_graph import ImageInput
from convd.runtime.cpu import CPU

_LOG_FATAL_ONLY = 4
_ANY_SIDE = 64
_FAILED = re.compile(r"running (\w+) node\. Name:'([^']*)'")


def problem_with(
    model: ModelProto, given: ImageInput, output: str, pictures: int = 2
) -> str | None:
    """Run a graph on black pictures.

    Args:
        model: The graph.
        given: Its input.
        output: Its output.
        pictures: The size of the batch.

    Returns:
        Why it does not answer; None where it does, or where its sides are not known.
    """
    trial = ModelProto()
    trial.CopyFrom(model)
    del trial.graph.output[:]
    trial.graph.output.append(onnx.ValueInfoProto(name=output))
    height, width = given.height or _ANY_SIDE, given.width or _ANY_SIDE
    shape = (pictures, given.channels, height, width)
    if given.channels_last:
        shape = (pictures, height, width, given.channels)
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_FATAL_ONLY
    try:
        session = ort.InferenceSession(trial.SerializeToString(), options, providers=[CPU.name])
        dtype = helper.tensor_dtype_to_np_dtype(given.element_type)
        (found,) = session.run(None, {given.name: np.zeros(shape, dtype)})
    # ONNX Runtime has errors of many classes.
    except Exception as error:
        if given.height is None and pictures > 1 and problem_with(model, given, output, 1):
            # The sides are not known here, and these are wrong.
            return None
        failed = _FAILED.search(str(error))
        return f"{failed[1]} {failed[2]!r}" if failed else "it does not run"
    rows = len(np.asarray(found)) if np.ndim(found) else 0
    return None if rows == pictures else f"it gives {rows} rows for {pictures} pictures"
