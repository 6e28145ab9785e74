"""BentoML: a batchable endpoint. Tensors travel as JSON, pictures as multipart forms."""

from pathlib import Path

import bentoml
import numpy as np
from engine import MAX_BATCH_SIZE, Engine


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    """One endpoint for pixels, and one for pictures."""

    def __init__(self) -> None:
        self.engine = Engine()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=60_000)
    def classify(self, images: np.ndarray) -> np.ndarray:
        """Classify a batch."""
        return self.engine.probabilities(images.astype(np.uint8))

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=60_000)
    def classify_jpeg(self, images: list[Path]) -> np.ndarray:
        """Decode and classify a batch."""
        decoded = [self.engine.image(path.read_bytes()) for path in images]
        return self.engine.probabilities(np.stack(decoded))
