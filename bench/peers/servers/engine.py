"""What every peer runs: the same file, provider and threads, in whatever process the peer has."""

import io
import os

import numpy as np
import onnxruntime
from PIL import Image

MAX_BATCH_SIZE = 32
RESIZE, JPEG = 232, b"\xff\xd8"


class Engine:
    """The network of `PEER_MODEL`, on `PEER_THREADS` threads of ONNX Runtime's CPU provider."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.shape = tuple(self.session.get_inputs()[0].shape[1:])
        self.classes = self.session.get_outputs()[0].shape[1]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Float32 `[batch, classes]` of uint8 `[batch, height, width, channels]`."""
        return self.session.run(["probabilities"], {"image": images})[0]

    def image(self, body: bytes) -> np.ndarray:
        """One image, uint8 `[height, width, channels]`, of its raw pixels or of a JPEG."""
        if not body.startswith(JPEG):
            return np.frombuffer(body, np.uint8).reshape(self.shape)
        height, width, channels = self.shape
        picture = Image.open(io.BytesIO(body)).convert("RGB" if channels == 3 else "L")
        scale = RESIZE / min(picture.size)
        size = tuple(round(side * scale) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return np.asarray(picture.crop((left, top, left + width, top + height)))
