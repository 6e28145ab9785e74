"""The server under test, as Triton's own client sees it."""

import io
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from PIL import Image
from tritonclient.utils import InferenceServerException


class Subject:
    """The server under test, and one picture in every form that it takes.

    Args:
        address: The server over gRPC.
        http_address: The same over HTTP.
        waiting_address: The server on which a lone request waits.
        waiting_http_address: The same over HTTP.
        model: Name of a model that both have.
    """

    def __init__(
        self,
        address: str,
        http_address: str,
        waiting_address: str,
        waiting_http_address: str,
        model: str,
    ) -> None:
        self.http = triton_http.InferenceServerClient(http_address)
        self.many_http = triton_http.InferenceServerClient(http_address, concurrency=20)
        self.waiting_http = triton_http.InferenceServerClient(waiting_http_address)
        self.address = address
        self.waiting_address = waiting_address
        self.model = model
        self.client = triton.InferenceServerClient(address)
        metadata = self.client.get_model_metadata(model)
        shape = tuple(next(one.shape for one in metadata.inputs if one.name == "image"))[1:]
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        file = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(file, "JPEG", quality=90)
        self.jpeg = file.getvalue()
        self.pixels = np.asarray(Image.open(io.BytesIO(self.jpeg))).reshape(1, *shape)

    def image_input(self, module: Any = triton) -> Any:
        """The picture as UINT8 pixels."""
        tensor = module.InferInput("image", list(self.pixels.shape), "UINT8")
        tensor.set_data_from_numpy(self.pixels)
        return tensor

    def jpeg_input(self, module: Any = triton) -> Any:
        """The picture as the BYTES of a JPEG."""
        tensor = module.InferInput("encoded_image", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[self.jpeg]], dtype=np.object_))
        return tensor

    def expected(self) -> Any:
        """The probabilities that every way has to give, bit for bit."""
        return self.client.infer(self.model, [self.image_input()]).as_numpy("probabilities")


class refused:  # noqa: N801
    """A context whose content the server must refuse with a status."""

    def __init__(self, status: str) -> None:
        self._status = status

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, InferenceServerException), f"not refused: {error!r}"
        assert error.status() == self._status, error
        assert error.message()
        return True
