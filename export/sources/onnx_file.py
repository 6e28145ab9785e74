"""Networks that are ONNX files already, from whatever made them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from convd.artifact.preprocessing import ChannelOrder, Preprocessing
from convd.export.errors import ExportError, SourceError
from convd.export.graph.network_graph import NetworkGraph
from convd.export.sources.input_recipe import recipe_of_input
from convd.export.sources.onnx_form import OnnxForm, read_form
from convd.models.strangers import recognise
from convd.runtime.cpu import CPU

_LOG_ERRORS_ONLY = 3


class OnnxNetwork(nn.Module):
    """A foreign graph in the place of a PyTorch network: it runs the file itself, unchanged.

    Args:
        model: The foreign graph as it is in the file.
        form: The same in the form that can be wrapped.
        path: The file, to run: the reference is what a plain session of it answers.
    """

    def __init__(self, model: onnx.ModelProto, form: OnnxForm, path: Path) -> None:
        super().__init__()
        self.model = model
        self.form = form
        self.graph = NetworkGraph(form.model, form.input, form.output)
        self.train(False)
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        first = model.graph.input[0].type.tensor_type.shape.dim[0]
        runnable: Path | bytes = path
        if first.HasField("dim_value") and first.dim_value <= 0:
            # No session runs a batch of the size that is declared.
            runnable = _with_any_batch(model)
        self._session = ort.InferenceSession(runnable, options, providers=[CPU.name])

    @property
    def parameters_count(self) -> int:
        """Number of numbers in its floating-point constants."""
        floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
        return sum(
            int(np.prod(constant.dims))
            for constant in self.model.graph.initializer
            if constant.data_type in floats
        )

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The recipe that the input suggests; None where its size is dynamic."""
        given = self.form.input
        if given.height is None or given.width is None:
            return None
        return recipe_of_input(given.height, given.width, given.channels)

    def forward(self, x: Tensor) -> Tensor:
        """What the file answers, whatever that is.

        Args:
            x: What the graph takes, with channels first: normalised float32 or uint8
                `[batch, channels, height, width]`.
        """
        given = self.form.input
        if given.channels_last:
            x = x.permute(0, 2, 3, 1)
        images = x.contiguous().numpy()
        images = images.astype(helper.tensor_dtype_to_np_dtype(given.element_type))
        size = self.form.batch or len(images)
        answers = [self._run(images[start : start + size]) for start in range(0, len(images), size)]
        return torch.from_numpy(np.concatenate(answers))

    def _run(self, images: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a batch; one that is too small for the file is filled up and cut again."""
        missing = (self.form.batch or len(images)) - len(images)
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        (output,) = self._session.run([self.form.file_output], {self.form.input.name: filled})
        if isinstance(output, list):
            # A ZipMap answers a dictionary for each picture.
            labels = self.form.labels or tuple(output[0])
            output = np.array([[row[label] for label in labels] for row in output], np.float32)
        answers: NDArray[np.float32] = np.asarray(output)[: len(images)]
        return answers


def _with_any_batch(model: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value <= 0:
            dimensions[0].dim_param = "batch"
    return copy.SerializeToString()


def read_onnx_file(
    path: Path, *, channel_order: ChannelOrder | None, output: str | None = None
) -> OnnxNetwork:
    """Read an ONNX file.

    Args:
        path: The file.
        channel_order: The channel order that the user gives.
        output: The output that the user chooses; None where there is one.

    Raises:
        SourceError: It is missing, damaged, or no classifier of pictures.
    """
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    stranger = recognise(path)
    if stranger is not None:
        raise SourceError(f"{path} {stranger}")
    try:
        model = onnx.load(path)
        return OnnxNetwork(model, read_form(model, channel_order, output), path)
    except ExportError:
        raise
    # Parsing raises protobuf's errors, external data the system's, loading ONNX Runtime's.
    except Exception as error:
        said = str(error).strip().splitlines()[0].removeprefix("[ONNXRuntimeError] : ")
        raise SourceError(f"{path} cannot be read as ONNX: {said}") from error
