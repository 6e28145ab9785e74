"""mosec: a Rust front end, and a worker process that gets batches of bodies."""

from engine import MAX_BATCH_SIZE, Engine
from mosec import Server, Worker


class Classifier(Worker):
    """Body in, body out, as mosec's guide does for data that is not JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()

    def deserialize(self, data: bytes) -> bytes:
        """Leave the body as it is: an image may need to be decoded."""
        return data

    def forward(self, data: list) -> list:
        """Classify a batch."""
        import numpy as np

        images = np.stack([self.engine.image(body) for body in data])
        return list(self.engine.probabilities(images))

    def serialize(self, data: object) -> bytes:
        """The probabilities, float32."""
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    # A millisecond is the shortest wait that mosec has.
    server.append_worker(Classifier, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=1)
    server.run()
