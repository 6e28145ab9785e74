"""LitServe: FastAPI and uvicorn, and a worker process behind a queue. It reads JSON."""

import base64
import os

import litserve
import numpy as np
from engine import MAX_BATCH_SIZE, Engine


class Classifier(litserve.LitAPI):
    """Images in base64, as LitServe's examples send them."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the network."""
        self.engine = Engine()

    def decode_request(self, request: dict) -> np.ndarray:
        """One image."""
        return self.engine.image(base64.b64decode(request["image"]))

    def predict(self, x: list) -> np.ndarray:
        """Classify a batch."""
        return self.engine.probabilities(np.stack(x))

    def encode_response(self, output: np.ndarray) -> dict:
        """The probabilities, float32, in base64."""
        return {"probabilities": base64.b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False)
