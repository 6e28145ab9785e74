"""Ray Serve: an HTTP proxy, and a replica that batches with `serve.batch`."""

import os
import signal

import numpy as np
import ray
from engine import MAX_BATCH_SIZE, Engine
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
class Classifier:
    """Body in, body out."""

    def __init__(self) -> None:
        self.engine = Engine()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.001)
    async def classify(self, bodies: list) -> list:
        """Classify a batch."""
        images = np.stack([self.engine.image(body) for body in bodies])
        return [row.tobytes() for row in self.engine.probabilities(images)]

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return Response(await self.classify(await request.body()))


if __name__ == "__main__":
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Classifier.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
