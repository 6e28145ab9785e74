"""MLServer: gRPC in Python, adaptive batching, and the network in a parallel worker."""

import numpy as np
from engine import Engine
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    """A custom runtime."""

    async def load(self) -> bool:
        """Load the network."""
        self.engine = Engine()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify a batch."""
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8, copy=False)
        output = NumpyCodec.encode_output("probabilities", self.engine.probabilities(images))
        return InferenceResponse(model_name=self.name, outputs=[output])
